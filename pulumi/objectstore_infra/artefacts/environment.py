"""Python environments for nodes: one archive with wheels, what to install of them, and pip.

    NAME.tar
    ├─ *.whl               the wheels, and pip's own
    └─ requirements.txt    each wheel to install, pinned to the hash of its file

A node needs neither a network nor a pip of its own to install it. The same wheels give the same
archive, byte for byte.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from objectstore_infra.artefacts.declaration import Environment
from objectstore_infra.artefacts.errors import ArtefactError
from objectstore_infra.artefacts.storage import Storage, StoredFile, key_of
from objectstore_infra.artefacts.wheels import REQUIREMENTS, Locked, PackageRow, described

Made = Mapping[str, list[StoredFile]]
FORMAT = 1


def inputs(item: Environment, made: Made) -> str:
    """Return the key of all that decides what `make` gives."""
    return key_of("environment", FORMAT, item.name, installed(item, made), made[item.installer])


def make(item: Environment, made: Made, storage: Storage) -> list[StoredFile]:
    """Write the archive of the environment."""
    wheels = installed(item, made)
    requirements = "".join(
        Locked(row["name"], row["version"], (f"--hash=sha256:{row['sha256']}",)).line()
        for row in map(described, wheels)
    ).encode()
    with tempfile.TemporaryDirectory(prefix="objectstore-environment-") as scratch:
        target = Path(scratch) / f"{item.name}.tar"
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for wheel in sorted([*wheels, *made[item.installer]]):
                with storage.path(wheel).open("rb") as content:
                    tar.addfile(entry_of(wheel.name, wheel.size), content)
            tar.addfile(entry_of(REQUIREMENTS, len(requirements)), io.BytesIO(requirements))
        return [storage.take(target)]


def contents(item: Environment, made: Made) -> list[PackageRow]:
    """Return the wheels of the archive, those that are installed first."""
    return [described(wheel) for wheel in (*installed(item, made), *made[item.installer])]


def version_of(item: Environment, made: Made) -> str:
    """Return the version of the package that gives the environment its own.

    Raises: ArtefactError: none of the wheels is of that package.
    """
    for row in map(described, installed(item, made)):
        if row["name"] == item.package:
            return row["version"]
    raise ArtefactError(f"{item.name}: none of its wheels is of {item.package}")


def installed(item: Environment, made: Made) -> list[StoredFile]:
    """The wheels that a node installs, in the order of the declaration."""
    return [wheel for name in item.wheels for wheel in made[name]]


def entry_of(name: str, size: int) -> tarfile.TarInfo:
    """A tar header in which only the name and the size vary."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info
