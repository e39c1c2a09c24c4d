"""What a run has to say: tables for the terminal, a page, and a plot.

`python -m tests.bench.report [JSON]` makes the page and the plot of an earlier run anew.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from .goals import judge
from .results import Results, Row, Verdict, read
from .systems import OURS

OUTPUT = Path("build/bench/latest.json")
MILLISECONDS = ("START",)
MARKS = "osD^v"


def tables(results: Results) -> str:
    """Everything, as text for the terminal."""
    parts = [_grid(_ratios(results)), _grid(_details(results))]
    if results.missed:
        missing = (f"{m.system} {m.case}: {m.reason}" for m in results.missed)
        parts.append("without figures:\n" + "\n".join(missing))
    return "\n\n".join(parts)


def verdicts(found: list[Verdict]) -> str:
    """A line a goal that could be judged, and how many there were."""
    held = sum(verdict.held is True for verdict in found)
    missed = sum(verdict.held is False for verdict in found)
    unknown = len(found) - held - missed
    lines = [str(verdict) for verdict in found if verdict.held is not None]
    lines.append(f"{held} goals held, {missed} missed, {unknown} not measured")
    return "\n".join(lines)


def page(results: Results, about: str, found: list[Verdict]) -> str:
    """The same as Markdown, with the verdicts; `about` says what it was made on."""
    durable = {row.system: (row.version, row.durability) for row in results.rows}
    systems = [["system", "version", "syncs before it answers a PUT"]]
    systems += [[name, *facts] for name, facts in durable.items()]
    notes = [f"- {verdict}" for verdict in found]
    notes += [f"- without figures: {m.system} {m.case}: {m.reason}" for m in results.missed]
    parts = (_markdown(lines) for lines in (systems, _ratios(results), _details(results)))
    return "\n\n".join((about, *parts, "\n".join(notes) + "\n"))


def _cases(results: Results) -> list[tuple[str, int]]:
    """Cases that can be compared, in the order they ran."""
    rows = [row for row in results.rows if row.compared]
    return list(dict.fromkeys((row.case, row.connections) for row in rows))


def _ratios(results: Results) -> list[list[str]]:
    """Operations a second (milliseconds for START) by system, and ours against the best peer.

    So too for processor time, in which more than 1 means that the best peer needs more.
    """
    systems = results.systems()
    rates = (f"{name}/s" for name in systems)
    lines = [["case", "c", *rates, "ours to best", "by cpu"]]
    for case, connections in _cases(results):
        found = [results.find(name, case, connections) for name in systems]
        timed = case.startswith(MILLISECONDS)
        shown = [_figure(row, timed=timed) for row in found]
        lines.append([case, str(connections), *shown, _ratio(found, timed=timed), _by_cpu(found)])
    return lines


def _figure(row: Row | None, *, timed: bool) -> str:
    if row is None:
        return "–"
    if timed:
        return f"{row.p50_ms:.0f} ms"
    return f"{row.ops_per_s:.0f}" if row.ops_per_s >= 100 else f"{row.ops_per_s:.1f}"


def _ratio(found: list[Row | None], *, timed: bool) -> str:
    ours = next((row for row in found if row and row.system == OURS), None)
    peers = [row for row in found if row and row.system != OURS]
    if ours is None or not peers:
        return ""
    if timed:
        return f"{min(row.p50_ms for row in peers) / ours.p50_ms:.2f}"
    return f"{ours.ops_per_s / max(row.ops_per_s for row in peers):.2f}"


def _by_cpu(found: list[Row | None]) -> str:
    ours = next((row for row in found if row and row.system == OURS), None)
    peers = [row.cpu_s_per_1000 for row in found if row and row.system != OURS]
    if ours is None or not ours.cpu_s_per_1000 or not peers:
        return ""
    return f"{min(peers) / ours.cpu_s_per_1000:.2f}"


def _details(results: Results) -> list[list[str]]:
    """All figures of all rows."""
    lines = [
        [
            *("case", "c", "system", "ops/s", "MiB/s", "p50 ms", "p99 ms", "first byte ms"),
            *("cpu ms/req", "RSS MiB", "PSS MiB", "client", "client ms/req", "stolen %"),
        ]
    ]
    order = list(dict.fromkeys((row.case, row.connections) for row in results.rows))
    for row in sorted(results.rows, key=lambda row: order.index((row.case, row.connections))):
        lines.append(
            [
                *(row.name, str(row.connections), row.system, f"{row.ops_per_s:.1f}"),
                *(f"{row.mib_per_s:.1f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}"),
                "–" if row.ttfb_ms is None else f"{row.ttfb_ms:.2f}",
                *(f"{row.cpu_s_per_1000:.3f}", f"{row.rss_mib:.0f}", f"{row.pss_mib:.0f}"),
                *(row.client or "–", f"{row.client_cpu_s_per_1000:.3f}"),
                f"{row.stolen_percent:.1f}",
            ]
        )
    return lines


def _grid(lines: list[list[str]]) -> str:
    """Aligned columns; the first is text, of the others numbers stand to the right."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _markdown(lines: list[list[str]]) -> str:
    rows = [f"| {' | '.join(line)} |" for line in lines]
    rows.insert(1, "|---" * len(lines[0]) + "|")
    return "\n".join(rows)


def plot(results: Results, path: Path) -> None:
    """A line a case, a mark a peer: our rate over the peer's, on a logarithmic axis."""
    import matplotlib as mpl  # heavy, and of no use to what only prints

    mpl.use("Agg")
    from matplotlib import pyplot, ticker

    cases = [
        (case, connections)
        for case, connections in _cases(results)
        if not case.startswith(MILLISECONDS) and results.find(OURS, case, connections)
    ]
    peers = [name for name in results.systems() if name != OURS]
    figure, axes = pyplot.subplots(figsize=(8, 0.24 * len(cases) + 1.4), dpi=80)
    for name, mark in zip(peers, itertools.cycle(MARKS), strict=False):
        places, ratios = [], []
        for place, (case, connections) in enumerate(cases):
            ours = results.find(OURS, case, connections)
            row = results.find(name, case, connections)
            if ours and row:
                places.append(place)
                ratios.append(ours.ops_per_s / row.ops_per_s)
        axes.scatter(ratios, places, marker=mark, label=f"over {name}", zorder=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g} ×"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_yticks(range(len(cases)), [f"{case} c{connections}" for case, connections in cases])
    axes.invert_yaxis()
    axes.set_xlabel("our operations a second over the peer's: right of the line we lead")
    if peers:
        axes.legend(loc="best", fontsize="small")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    results = read(source)
    about = f"From {source.name}."
    source.with_suffix(".md").write_text(page(results, about, judge(results)), encoding="utf-8")
    plot(results, source.with_suffix(".png"))
    print(tables(results))
    print(verdicts(judge(results)))


if __name__ == "__main__":
    main()
