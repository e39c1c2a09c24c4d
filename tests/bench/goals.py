"""The goals that the store is held to, each judged from the rows of one run.

A goal compares with the best peer *of the run*: who is not installed cannot be beaten, and the
verdict names whom it compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .results import Results, Row, Verdict
from .systems import OURS
from .upkeep import AT_REST, AT_WORK

GARAGES = ("garage", "garage-sync")
RSS_MAX_MIB = 200.0
START_MAX_MS = 1000.0
GROWTH_MAX = 1.20
UNFELT_MAX = 1.20
LIST_OVER_MINIO = 5.0
SMALL = [(f"{verb} 4 KiB", connections) for verb in ("PUT", "GET") for connections in (16, 64)]
HUGE = [("PUT 64 MiB multipart", 4), ("GET 64 MiB", 4)]
LISTS = [
    (f"LIST {kind}", connections)
    for kind in ("full", "delimiter", "deep")
    for connections in (1, 16)
]


def judge(results: Results) -> list[Verdict]:
    """Every goal, in the order of the table."""
    return [
        *(_ahead(results, case, connections) for case, connections in SMALL),
        *(_ahead(results, case, connections, of=GARAGES) for case, connections in LISTS),
        *(
            _ahead(results, case, connections, of=("minio",), factor=LIST_OVER_MINIO)
            for case, connections in LISTS
        ),
        *(_ahead(results, case, connections) for case, connections in HUGE),
        *(_p99(results, case, connections) for case, connections in (*SMALL, *LISTS)),
        *_resident(results),
        *(_start(results, case) for case in ("START fresh", "START again")),
        *_growth(results),
        *(_bound(results, way) for way in ("PUT", "GET")),
        *(_unfelt(results, case) for case in ("PUT 4 KiB", "GET 4 KiB")),
    ]


def _peers(
    results: Results, case: str, connections: int, of: tuple[str, ...] | None = None
) -> list[Row]:
    names = [name for name in results.systems() if name != OURS and (of is None or name in of)]
    found = (results.find(name, case, connections) for name in names)
    return [row for row in found if row]


def _against(
    results: Results,
    case: str,
    connections: int,
    of: tuple[str, ...] | None,
    judged: Callable[[Row, list[Row]], tuple[bool, str]],
    goal: str,
) -> Verdict:
    ours = results.find(OURS, case, connections)
    peers = _peers(results, case, connections, of)
    if ours is None or not peers:
        return Verdict(goal, None, "not measured" if ours is None else "no such peer in this run")
    return Verdict(goal, *judged(ours, peers))


def _ahead(
    results: Results,
    case: str,
    connections: int,
    *,
    of: tuple[str, ...] | None = None,
    factor: float = 1.0,
) -> Verdict:
    whom = " and ".join(of[:1]) if of else "every peer"
    times = f"{factor:g} × " if factor != 1 else ""
    goal = f"{case} c{connections} at least {times}{whom}"

    def judged(ours: Row, peers: list[Row]) -> tuple[bool, str]:
        best = max(peers, key=lambda row: row.ops_per_s)
        ratio = ours.ops_per_s / best.ops_per_s
        numbers = f"{_number(ours.ops_per_s)}/s to {_number(best.ops_per_s)}/s of {best.system}"
        return ratio >= factor, f"{ratio:.2f} × ({numbers})"

    return _against(results, case, connections, of, judged, goal)


def _p99(results: Results, case: str, connections: int) -> Verdict:
    def judged(ours: Row, peers: list[Row]) -> tuple[bool, str]:
        best = min(peers, key=lambda row: row.p99_ms)
        return (
            ours.p99_ms <= best.p99_ms,
            f"{ours.p99_ms:.2f} ms to {best.p99_ms:.2f} ms of {best.system}",
        )

    goal = f"{case} c{connections} p99 not worse than the best peer's"
    return _against(results, case, connections, None, judged, goal)


def _resident(results: Results) -> Iterator[Verdict]:
    """Both ways to count: a process's own view, and physical memory."""
    loaded = [row for row in results.of(OURS) if row.connections and row.rss_mib]
    counts: dict[str, Callable[[Row], float]] = {
        "RSS summed": lambda row: row.rss_mib,
        "PSS: shared pages once": lambda row: row.pss_mib,
    }
    for way, count in counts.items():
        goal = f"all processes under {RSS_MAX_MIB:g} MiB resident under load ({way})"
        if not loaded:
            yield Verdict(goal, None, "not measured")
            continue
        worst = max(loaded, key=count)
        detail = f"{count(worst):.0f} MiB at most, in {worst.name} c{worst.connections}"
        yield Verdict(goal, count(worst) < RSS_MAX_MIB, detail)


def _start(results: Results, case: str) -> Verdict:
    goal = f"{case}: first PUT within {START_MAX_MS / 1000:g} s"
    row = results.find(OURS, case, 1)
    if row is None:
        return Verdict(goal, None, "not measured")
    return Verdict(goal, row.p50_ms <= START_MAX_MS, f"{row.p50_ms:.0f} ms")


def _growth(results: Results) -> Iterator[Verdict]:
    rows = [row for row in results.of(OURS) if row.case.startswith("GROWTH")]
    if not rows:
        yield Verdict("cost of a growing bucket", None, "not measured")
    for case in dict.fromkeys(row.case for row in rows):
        sizes = sorted((row for row in rows if row.case == case), key=lambda row: row.objects or 0)
        ratio = sizes[-1].p50_ms / sizes[0].p50_ms
        shown = ", ".join(f"{row.objects:,}: {row.p50_ms:.2f} ms" for row in sizes)
        goal = f"{case} p50 changes by at most {GROWTH_MAX - 1:.0%}"
        yield Verdict(goal, ratio <= GROWTH_MAX, f"{ratio:.2f} × ({shown})")


def _bound(results: Results, way: str) -> Verdict:
    found = [row for row in results.of(OURS) if row.case == f"BOUND {way}"]
    if not found:
        goal = f"{way} of one large object under {RSS_MAX_MIB:g} MiB resident"
        return Verdict(goal, None, "not measured")
    row = found[0]
    goal = f"{way} of one object of {row.variant} under {RSS_MAX_MIB:g} MiB resident"
    detail = f"RSS {row.rss_mib:.0f} MiB, PSS {row.pss_mib:.0f} MiB at {row.mib_per_s:.0f} MiB/s"
    return Verdict(goal, row.rss_mib < RSS_MAX_MIB, detail)


def _unfelt(results: Results, case: str) -> Verdict:
    goal = f"{case} p99 with Atlas at work at most {UNFELT_MAX:g} × as at rest"
    found = {row.variant: row for row in results.of(OURS) if row.case == case}
    if AT_REST not in found or AT_WORK not in found:
        return Verdict(goal, None, "not measured")
    work, rest = found[AT_WORK].p99_ms, found[AT_REST].p99_ms
    return Verdict(goal, work <= UNFELT_MAX * rest, f"{work:.2f} ms to {rest:.2f} ms")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
