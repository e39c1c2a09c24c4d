"""Runs a playbook of the repository and tells how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
EXAMPLE_INVENTORY = ROOT / "tests" / "ansible" / "inventory.json"
PLAYBOOKS = tuple(sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")))
TIMEOUT_S = 1500


@dataclass(frozen=True)
class Outcome:
    """Exit code and everything a command printed."""

    code: int
    output: str


def environment(inventory: Path | None = None) -> dict[str, str]:
    found = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    found["NO_COLOR"] = "1"
    found["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    if inventory:
        found["OBJECTSTORE_INVENTORY"] = str(inventory)
    return found


def run(*argv: str, inventory: Path | None = None, timeout_s: float = TIMEOUT_S) -> Outcome:
    """Run a command of the virtual environment in the repository."""
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=ROOT,
        env=environment(inventory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Outcome(done.returncode, done.stdout)


def play(name: str, **extra: str) -> Outcome:
    """Run one playbook on the deployment that OBJECTSTORE_INVENTORY names."""
    variables = [part for key, value in extra.items() for part in ("-e", f"{key}={value}")]
    return run("ansible-playbook", f"playbooks/{name}.yml", *variables)
