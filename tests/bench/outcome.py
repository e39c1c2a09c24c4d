"""What a timed run gave, whichever client drove it."""

from __future__ import annotations

from dataclasses import dataclass, field


class CaseError(Exception):
    """A case could not be measured: the reason, for the table."""


@dataclass
class Outcome:
    """Figures of one run. `read_bytes` counts what the server sent, heads included."""

    operations: int
    seconds: float
    read_bytes: int
    p50_ms: float
    p99_ms: float
    client_cpu_s: float
    ttfb_ms: float | None = None
    failures: dict[str, int] = field(default_factory=dict)

    def check(self, what: str) -> Outcome:
        """Return itself. Raises: CaseError when anything but success was answered."""
        if self.failures or not self.operations:
            told = ", ".join(f"{count} × {kind}" for kind, count in self.failures.items())
            raise CaseError(f"{what}: {told or 'nothing'} in the place of success")
        return self


def percentile(ordered: list[float], share: float) -> float:
    """The value that `share` of the sorted values do not exceed (nearest rank); 0.0 of none."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[min(max(int(rank), 1), len(ordered)) - 1]


def corrected(values: list[float], expected: float) -> list[float]:
    """Sorted, with what requests would have seen that a slow answer kept from being sent.

    As wrk does it: a value of more than twice what is expected adds itself less the expected, less
    twice that, and so on down to the expected.
    """
    added = []
    for value in values:
        rest = value - expected if value >= 2 * expected else 0.0
        while rest > expected > 0:
            added.append(rest)
            rest -= expected
    return sorted(values + added)


def median(values: list[float]) -> float:
    """The middle value; of an even number the lower of the two."""
    return percentile(sorted(values), 0.5)
