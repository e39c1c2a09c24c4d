"""What `make up` validates with: `python -m objectstore_infra.validation STACK < OUTPUTS`.

Reads the stack's outputs as JSON and runs tests/validation (pytest-testinfra) against its VMs, from
outside and over SSH, several at a time; ends as pytest does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .state_folder import INVENTORY, store_folder

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2


def store_name(outputs: Mapping[str, Any]) -> str:
    """The store's name, from the name of its first VM."""
    return str(outputs["vms"][0]["name"]).partition("-default-")[0]


def main() -> None:
    folder = store_folder(store_name(json.load(sys.stdin)))
    told = {"OBJECTSTORE_INVENTORY": str(folder / INVENTORY), "OBJECTSTORE_STACK": sys.argv[1]}
    workers = ("-n", str(WORKERS), "--dist", "loadfile")
    pytest = [sys.executable, "-m", "pytest", *workers, "tests/validation"]
    sys.exit(subprocess.run(pytest, cwd=ROOT, env=os.environ | told).returncode)


if __name__ == "__main__":
    main()
