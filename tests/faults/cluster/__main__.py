"""`make faults-cluster STACK=…`: every fault on a deployment under load, one after the other.

Prints a table, and keeps it as JSON beside what each fault did. `--docs` puts the table into
docs/faults.md. Exits with 1 when anything acknowledged was lost or stale, or a goal was missed.

Usage: python -m tests.faults.cluster [--stack NAME] [--json FILE] [--docs] [FAULT…]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests import deployment
from tests.faults.cluster.description import read_endpoint, read_machines
from tests.faults.cluster.faults import BY_NAME, FAULTS
from tests.faults.cluster.machines import MachineError
from tests.faults.cluster.table import DOCS, row_of, table_of, write_docs
from tests.faults.cluster.traffic import Traffic
from tests.faults.cluster.trial import Trial, try_fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.cluster", description=__doc__)
    parser.add_argument("--stack", default=deployment.STACK, help="which deployment")
    parser.add_argument("--json", type=Path, default=Path("build/faults-cluster.json"))
    parser.add_argument("--docs", action="store_true", help=f"put the table into {DOCS}")
    parser.add_argument("fault", nargs="*", help="only these: " + ", ".join(BY_NAME))
    given = parser.parse_args()
    unknown = sorted(set(given.fault) - set(BY_NAME))
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    environment = deployment.environment(given.stack)
    machines = read_machines(Path(environment["OBJECTSTORE_INVENTORY"]))
    traffic = Traffic.over_new_buckets(read_endpoint(environment))
    trials: list[Trial] = []
    for fault in FAULTS:
        if given.fault and fault.name not in given.fault:
            continue
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
        keep(given.json, trials)
    traffic.clean_up()
    print("\n" + table_of(trials), flush=True)
    if given.docs:
        write_docs(trials)
    return 1 if any(trial.wrong or trial.missed for trial in trials) else 0


def keep(path: Path, trials: list[Trial]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([trial.as_json() for trial in trials], indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
