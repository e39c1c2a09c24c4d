"""The fault table, as it is printed and as docs/faults.md holds it."""

from __future__ import annotations

from pathlib import Path

from tests.faults.cluster.calls import KINDS
from tests.faults.cluster.trial import Trial

DOCS = "docs/faults.md"
_ROOT = Path(__file__).resolve().parents[3]
_BEGIN, _END = "<!-- table: make faults-cluster -->\n", "<!-- end of table -->\n"
_HEADING = ("fault", "goal", *KINDS, "when healed", "failed calls", "boto3", "data", "load")


def row_of(trial: Trial) -> str:
    """One line of it for whoever waits."""
    return " | ".join(_cells(trial)) + (f"\n{trial.wrong}" if trial.wrong else "")


def table_of(trials: list[Trial]) -> str:
    """As Markdown: waits in seconds."""
    lines = [_HEADING, ("---",) * len(_HEADING), *map(_cells, trials)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write_docs(trials: list[Trial]) -> None:
    """Replace the page's table."""
    page = _ROOT / DOCS
    before, rest = page.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}{table_of(trials)}{_END}{after}", encoding="utf-8")


def _cells(trial: Trial) -> tuple[str, ...]:
    returned = max(trial.returned_s.values(), default=0.0)
    application = f"{trial.application_failed} of {trial.application_calls} failed"
    return (
        f"`{trial.fault}` {trial.about}",
        f"{trial.goal_s:.0f}" if trial.goal_s else "–",
        *(f"{trial.waited_s[kind]:.1f}" if kind in trial.waited_s else "–" for kind in KINDS),
        f"{returned:.1f}",
        f"{sum(trial.failed.values())} of {trial.calls}",
        f"{application}, longest {trial.application_longest_s:.1f}",
        "**wrong**" if trial.wrong else f"{trial.acknowledged} kept",
        f"{trial.load:.0f}",
    )
