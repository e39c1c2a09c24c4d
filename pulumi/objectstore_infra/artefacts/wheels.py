"""Locked Python packages as wheels for the guest.

The guest's Python differs from the operator's: wheels are chosen for `GUEST`, never for the
interpreter that runs this. Each is checked against the hashes of its lock file by pip.
"""

from __future__ import annotations

import platform
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from objectstore_infra.artefacts.errors import ArtefactError, run_tool
from objectstore_infra.artefacts.storage import Storage, StoredFile

REQUIREMENTS = "requirements.txt"
PIP_TIMEOUT_S = 900
WHEEL_TIME_S = "315532800"
"""The time of every file in a wheel built here: the first that a zip file can say."""
OFFLINE_HINT = (
    "what the cache lacks comes from the package index that this machine's pip uses; the nodes "
    "need none"
)


@dataclass(frozen=True, slots=True)
class Guest:
    """What the nodes run: their Python, machine and the newest glibc a wheel may ask for."""

    python: str = "3.13"
    machine: str = "x86_64"
    glibc_minor: int = 41

    def platforms(self) -> list[str]:
        """The wheel platform tags that such a guest takes."""
        return [
            *(f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc_minor, 4, -1)),
            f"manylinux2014_{self.machine}",
            f"linux_{self.machine}",
        ]

    def markers(self) -> dict[str, str]:
        """The environment that the markers of a lock file are evaluated in."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


GUEST = Guest(machine=platform.machine())


@dataclass(frozen=True, slots=True)
class Locked:
    """One pinned line of a lock file: `name==version` and the hashes that are accepted."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """Return it as pip reads it."""
        return " \\\n    ".join([f"{self.name}=={self.version}", *self.hashes]) + "\n"


class PackageRow(TypedDict):
    """A wheel inside an archive, as a bundle's listing tells it."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


def read_lock(path: Path, guest: Guest = GUEST) -> list[Locked]:
    """The entries of a lock file that a guest needs, markers evaluated for the guest.

    Raises: ArtefactError: the file is missing, or an entry is not pinned.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ArtefactError(f"the lock file {path} is missing") from error
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.replace("\\\n", " ").splitlines())
    entries = []
    for line in filter(None, map(str.strip, lines)):
        head, *hashes = re.split(r"\s+(?=--hash=)", line)
        requirement = Requirement(head)
        if requirement.marker and not requirement.marker.evaluate(dict(guest.markers())):
            continue
        pin = str(requirement.specifier)
        if not pin.startswith("==") or not hashes:
            raise ArtefactError(f"{path}: {head!r} is not pinned to one version with hashes")
        entries.append(Locked(requirement.name, pin.removeprefix("=="), tuple(hashes)))
    return entries


def make(locked: list[Locked], storage: Storage, guest: Guest = GUEST) -> list[StoredFile]:
    """Fetch the guest's wheels of these entries from the package index."""
    with tempfile.TemporaryDirectory(prefix="objectstore-wheels-") as scratch:
        folder = Path(scratch)
        requirements = folder / REQUIREMENTS
        requirements.write_text("".join(entry.line() for entry in locked), encoding="utf-8")
        pip(
            ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"],
            [f"--python-version={guest.python}", "--implementation=cp"],
            [f"--platform={tag}" for tag in guest.platforms()],
            [f"--dest={folder}", f"--requirement={requirements}"],
        )
        return [storage.take(wheel) for wheel in sorted(folder.glob("*.whl"))]


def described(wheel: StoredFile) -> PackageRow:
    """Return what a listing tells of a wheel."""
    name, version, *_ = parse_wheel_filename(wheel.name)
    return {
        "name": str(name),
        "version": str(version),
        "file": wheel.name,
        "size": wheel.size,
        "sha256": wheel.sha256,
    }


def pip(*arguments: list[str]) -> None:
    """Run this interpreter's pip. Raises: ToolError."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += [argument for group in arguments for argument in group]
    run_tool(
        command,
        name="pip",
        environment={"SOURCE_DATE_EPOCH": WHEEL_TIME_S},
        timeout_s=PIP_TIMEOUT_S,
        hint=OFFLINE_HINT,
    )
