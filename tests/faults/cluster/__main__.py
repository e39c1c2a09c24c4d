"""`make faults-cluster STACK=…`: every fault on a deployment under load, one after the other.

Prints a table, and keeps each fault's last trial with all its figures as JSON. `--docs` does
nothing but put the table of what is kept into docs/faults.md. Exits with 1 when anything
acknowledged was lost or stale, or a goal was missed.

Usage: python -m tests.faults.cluster [--stack NAME] [--json FILE] [--docs] [FAULT…]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests import deployment
from tests.faults.cluster.description import read_endpoint, read_machines
from tests.faults.cluster.faults import BY_NAME, FAULTS, Fault
from tests.faults.cluster.machines import MachineError
from tests.faults.cluster.table import DOCS, row_of, table_of, write_docs
from tests.faults.cluster.traffic import Traffic
from tests.faults.cluster.trial import Trial, keep_trials, read_trials, try_fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.cluster", description=__doc__)
    parser.add_argument("--stack", default=deployment.STACK, help="which deployment")
    parser.add_argument("--json", type=Path, default=Path("build/faults-cluster.json"))
    parser.add_argument("--docs", action="store_true", help=f"write the table of {DOCS}")
    parser.add_argument("fault", nargs="*", help="only these: " + ", ".join(BY_NAME))
    given = parser.parse_args()
    unknown = sorted(set(given.fault) - set(BY_NAME))
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    if given.docs:
        kept = read_trials(given.json)
        write_docs([kept[name] for name in BY_NAME if name in kept])
        return 0
    chosen = [BY_NAME[name] for name in given.fault] or list(FAULTS)
    return try_all(chosen, given.stack, given.json)


def try_all(faults: list[Fault], stack: str, kept: Path) -> int:
    """Returns the exit code."""
    environment = deployment.environment(stack)
    machines = read_machines(Path(environment["OBJECTSTORE_INVENTORY"]))
    traffic = Traffic.over_new_buckets(read_endpoint(environment))
    trials: list[Trial] = []
    for fault in faults:
        if len(machines.envoys) < fault.envoys:
            print(f"{fault.name}: needs {fault.envoys} envoys", flush=True)
            continue
        traffic = traffic.again()
        try:
            trial = try_fault(fault, machines, traffic)
        except MachineError as error:
            print(f"error: {fault.name}: {error}", flush=True)
            return 1
        trials.append(trial)
        print(row_of(trial), flush=True)
        keep_trials(kept, [trial])
    traffic.clean_up()
    print("\n" + table_of(trials), flush=True)
    return 1 if any(trial.wrong or trial.missed for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
