"""The results of a bench: one row a system, case and number of connections; what they prove."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .outcome import median


@dataclass
class Row:
    """One of the `rows` of build/bench/latest.json.

    `p50_ms` and `p99_ms` are of one operation: a request, or a whole object where the case says
    multipart; for START they are the time to the first PUT. `rss_mib` and `pss_mib` are the highest
    of the server's process tree during the case. `client` is what drove it. `stolen_percent` is the
    share of the processors that the host took away meanwhile, `backing_cpu_s_per_1000` what the
    daemons took that keep the server's data, where that is measured. Cases of our store alone say
    what is special in them: `variant`, and `objects` in the bucket.
    """

    system: str
    version: str
    durability: str
    case: str
    connections: int
    ops_per_s: float = 0.0
    mib_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_s_per_1000: float = 0.0
    rss_mib: float = 0.0
    pss_mib: float = 0.0
    ttfb_ms: float | None = None
    client: str = ""
    client_cpu_s_per_1000: float = 0.0
    stolen_percent: float = 0.0
    backing_cpu_s_per_1000: float = 0.0
    variant: str = ""
    objects: int | None = None

    @property
    def name(self) -> str:
        """The case with what is special in it."""
        return ", ".join(filter(None, (self.case, self.variant)))

    @property
    def compared(self) -> bool:
        """Whether it is one of the cases that every system goes through."""
        return not self.variant and self.connections > 0


@dataclass(frozen=True)
class Missed:
    """A case that gave no figures, and why."""

    system: str
    case: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """One of the `goals` of build/bench/latest.json. `held` is None where the run does not say: the
    case or the peer is missing.
    """

    goal: str
    held: bool | None
    detail: str

    def __str__(self) -> str:
        sign = {True: "✔", False: "✘", None: "–"}[self.held]
        return f"{sign} {self.goal}: {self.detail}"


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)

    def find(self, system: str, case: str, connections: int) -> Row | None:
        wanted = (system, case, connections)
        for row in self.rows:
            if row.compared and (row.system, row.case, row.connections) == wanted:
                return row
        return None

    def systems(self) -> list[str]:
        return list(dict.fromkeys(row.system for row in self.rows))

    def of(self, system: str) -> list[Row]:
        return [row for row in self.rows if row.system == system]

    def write(self, path: Path, goals: Sequence[Verdict]) -> None:
        """As JSON: the verdicts, then the rows that they come from."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "goals": [asdict(verdict) for verdict in goals],
            "rows": [asdict(row) for row in self.rows],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def middle(rows: list[Row], figure: Callable[[Row], float]) -> list[Row]:
    """Of the rounds of each case and variant, the one whose figure is the median."""
    kept = []
    for kind in dict.fromkeys((row.case, row.variant) for row in rows):
        rounds = [row for row in rows if (row.case, row.variant) == kind]
        wanted = median([figure(row) for row in rounds])
        kept.append(next(row for row in rounds if figure(row) == wanted))
    return kept


def read(path: Path) -> Results:
    """The rows of an earlier run."""
    return Results([Row(**fields) for fields in json.loads(path.read_text())["rows"]])
