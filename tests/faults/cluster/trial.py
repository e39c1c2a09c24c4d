"""One fault under load, measured: what clients noticed while it lasted and when it was healed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from tests.faults.cluster.calls import KINDS, failures, longest_waits
from tests.faults.cluster.faults import Fault
from tests.faults.cluster.machines import Machines
from tests.faults.cluster.traffic import Traffic

BEFORE_S = 3.0
AFTER_S = 3.0
WELL_S_MAX = 240.0
CLIENTS_PRIORITY = -10


@dataclass(frozen=True)
class Trial:
    """What one fault did. `waited_s` and `returned_s` are the longest waits by kind of call, from
    the fault on and from the moment of its healing; `failed` counts calls by what was said.
    `application_*` are those of clients with retries of their own. `at` is the time of day (UTC),
    `load` the machine's load average: all VMs share its processors.
    """

    fault: str
    about: str
    chosen: str
    goal_s: float
    waited_s: dict[str, float]
    returned_s: dict[str, float]
    calls: int
    failed: dict[str, int]
    application_calls: int
    application_failed: int
    application_longest_s: float
    well_after_s: float
    acknowledged: int
    reads: int
    at: str
    load: float
    wrong: str = ""

    @property
    def longest_s(self) -> float:
        return max([0.0, *self.waited_s.values(), *self.returned_s.values()])

    @property
    def missed(self) -> bool:
        """Whether a client waited longer than the goal allows."""
        return bool(self.goal_s) and self.longest_s > self.goal_s


def read_trials(path: Path) -> dict[str, Trial]:
    """The trials kept in a file, by fault."""
    if not path.exists():
        return {}
    kept = msgspec.json.decode(path.read_bytes(), type=list[Trial])
    return {trial.fault: trial for trial in kept}


def keep_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Beside what the file holds of other faults."""
    kept = read_trials(path) | {trial.fault: trial for trial in trials}
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.encode([asdict(trial) for trial in kept.values()])
    path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def try_fault(fault: Fault, machines: Machines, traffic: Traffic) -> Trial:
    """Raises MachineError when the deployment does not get well again; what is lost or stale is
    told in `wrong`.
    """
    machines.until_well(WELL_S_MAX)
    _prefer_clients()
    target = fault.choose(machines)
    with traffic:
        time.sleep(BEFORE_S)
        applied = time.monotonic()
        with fault.apply(machines, target) as chosen:
            time.sleep(fault.held_s)
            healed = time.monotonic()
        well_after_s = machines.until_well(WELL_S_MAX)
        time.sleep(AFTER_S)
        end = time.monotonic()
    load = os.getloadavg()[0]
    wrong = ""
    try:
        traffic.settle()
    except AssertionError as error:
        wrong = str(error)
    calls = traffic.calls.all()
    failed = failures(calls, applied, end)
    return Trial(
        fault=fault.name,
        about=fault.about,
        chosen=chosen,
        goal_s=fault.goal_s,
        waited_s=_rounded(longest_waits(calls, applied, healed)),
        returned_s=_rounded(longest_waits(calls, healed, end, whole=True)),
        calls=sum(applied <= call.ended <= end for call in calls),
        failed=dict(failed),
        application_calls=traffic.applications.calls,
        application_failed=len(traffic.applications.failures),
        application_longest_s=round(traffic.applications.longest_s, 2),
        well_after_s=round(well_after_s, 1),
        acknowledged=traffic.acknowledged,
        reads=traffic.reads,
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        load=round(load, 1),
        wrong=wrong,
    )


def _prefer_clients() -> None:
    """The clients stand for machines of their own: they do not wait for processors that the VMs
    of this one are busy on.
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, CLIENTS_PRIORITY)


def _rounded(waits: dict[str, float]) -> dict[str, float]:
    return {kind: round(waits[kind], 2) for kind in KINDS if kind in waits}
