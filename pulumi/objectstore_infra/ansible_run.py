"""Runs the playbooks of this repository and shows their progress line by line.

The same playbooks an operator can run by hand: inventory and settings come from the store's folder.
Here each node keeps one Python process for the whole run (Mitogen) where Ansible itself begins one
for each task and compiles its own modules in it: most of what a run costs otherwise.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from objectstore_infra import state_folder
from objectstore_infra.errors import InfraError

REPOSITORY = Path(__file__).resolve().parents[2]
CONTENT = ("ansible.cfg", "inventories", "playbooks", "roles")
TAIL_LINES_MAX = 40
_STEP = re.compile(r"^(?:PLAY|TASK|RUNNING HANDLER) \[(.*?)\]")
# `[HOST]`, or `[HOST -> ASKED(ADDRESS)]` where another one was asked.
_SILENT = re.compile(r"^fatal: \[(?:\S+ -> )?([^\]\s(]+)\S*\]: UNREACHABLE!", re.MULTILINE)
_TROUBLE = re.compile(r"^(fatal|failed|ERROR|\[ERROR\])")


class ConfigurationError(InfraError):
    """A playbook failed; the message holds the end of its output."""


def content_hash(root: Path = REPOSITORY) -> str:
    """Return the hash of everything that decides what a configuration run does."""
    digest = hashlib.sha256()
    for name in CONTENT:
        base = root / name
        files = [base] if base.is_file() else sorted(base.rglob("*"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(root)}\n".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def log_file(store: str, playbook: str) -> Path:
    """Return where the output of the playbook's last run for the store is."""
    return state_folder.store_folder(store) / f"ansible-{Path(playbook).stem}.log"


def run_playbook(
    playbook: str,
    store: str,
    say: Callable[[str], None],
    variables: Mapping[str, object] | None = None,
    *,
    root: Path = REPOSITORY,
) -> None:
    """Run `playbooks/PLAYBOOK` on the store's nodes. Raises ConfigurationError."""
    folder = state_folder.store_folder(store)
    log = log_file(store, playbook)
    state_folder.write_private(log, "")
    began = time.monotonic()
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(root / "inventories" / "local"),
        str(root / "playbooks" / playbook),
        *(["--extra-vars", json.dumps(variables)] if variables else []),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(_mitogen() / "plugins" / "strategy"),
        "LC_ALL": "C.UTF-8",
        "OBJECTSTORE_INVENTORY": str(folder / state_folder.INVENTORY),
        "PYTHONUNBUFFERED": "1",
    }
    tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
    with (
        log.open("a", encoding="utf-8") as record,
        subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        if process.stdout is None:
            raise AssertionError("Popen was asked for a pipe")
        for line in process.stdout:
            record.write(line)
            record.flush()
            tail.append(line.rstrip())
            progress = _progress(line)
            if progress:
                say(progress)
    if process.returncode:
        shown = "\n    ".join(line for line in tail if line)
        raise ConfigurationError(
            f"playbook {playbook} ended with {process.returncode}:\n    {shown}",
            hint=_hint(log),
        )
    say(f"{playbook} done in {time.monotonic() - began:.0f} s")


def _mitogen() -> Path:
    """Return where Mitogen's package for Ansible lies; importing it would change Ansible's own."""
    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or found.origin is None:
        raise ConfigurationError("mitogen is not installed", hint="`scripts/venv deploy` does it")
    return Path(found.origin).parent


def _hint(log: Path) -> str:
    """Return what the operator does about a playbook that failed."""
    silent = sorted(set(_SILENT.findall(log.read_text(encoding="utf-8"))))
    if not silent:
        return f"the whole output is in {log}; `make up` runs it again"
    return (
        f"{', '.join(silent)} cannot be reached, and a change needs all machines. See whether it "
        "runs; one that was switched off or is gone for good is started or made anew by `make "
        "refresh` and `make up`, and joins again. Meanwhile playbooks/healthcheck.yml and "
        f"diagnostics.yml look at the others. The whole output is in {log}"
    )


def _progress(line: str) -> str:
    """Return what is worth showing of a line of ansible-playbook's output."""
    step = _STEP.match(line)
    if step:
        return step[1]
    return line.strip() if _TROUBLE.match(line) else ""
