"""Errors of bundles and what they are made of.

BundleError                a bundle cannot be made, or must not be installed
├─ DeclarationError        the declaration itself is wrong; names the table and the key
├─ ArtefactError           a declared artefact cannot be made
│  └─ ToolError            a tool that makes it failed; carries the end of what it said
└─ ListingError            a listing is missing, torn, not trusted, or differs from the files
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from objectstore_infra.errors import InfraError

SAID_LINES_MAX = 12


class BundleError(InfraError):
    """A bundle cannot be made, or must not be installed."""


class DeclarationError(BundleError):
    """The declaration is refused."""


class ArtefactError(BundleError):
    """An artefact cannot be made."""


class ToolError(ArtefactError):
    """A tool failed while it made an artefact."""


class ListingError(BundleError):
    """A bundle is not what its listing says."""


def run_tool(
    argv: Sequence[str | Path],
    *,
    timeout_s: int,
    name: str = "",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    hint: str = "",
) -> str:
    """Run a tool to its end and return its standard output.

    `name` is what errors call it, where that is not the program's own name.

    Raises: ToolError when it is missing, fails or takes longer than `timeout_s`.
    """
    name = name or Path(argv[0]).name
    try:
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            env={**os.environ, **environment} if environment else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise ToolError(f"{name} is not installed", hint=hint) from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{name} was stopped after {timeout_s} s", hint=hint) from error
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        tail = "\n    ".join(said[-SAID_LINES_MAX:])
        raise ToolError(f"{name} failed with code {done.returncode}:\n    {tail}", hint=hint)
    return done.stdout
