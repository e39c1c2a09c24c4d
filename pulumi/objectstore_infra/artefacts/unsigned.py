"""Bundles of format 1, as earlier releases built them: read and verified, built no more.

    VERSION/
    ├─ manifest.json      version, the guest it is for, and each archive with its contents, sizes
    │                     and SHA-256 sums
    └─ NAME.tar           the archives

Nothing says who built them: whoever copies one here answers for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from objectstore_infra.artefacts.errors import ListingError
from objectstore_infra.artefacts.listing import rebuild_hint
from objectstore_infra.artefacts.storage import sha256_of
from objectstore_infra.artefacts.wheels import PackageRow

FORMAT = 1
MANIFEST = "manifest.json"


class ArchiveRow(PackageRow):
    """A Python environment for nodes: its archive, and the wheels in it."""

    contents: list[PackageRow]


class Manifest(TypedDict):
    """What `manifest.json` holds; `source` is the content version of the tree it was built from."""

    format: int
    version: str
    source: str
    built: str
    guest: dict[str, str]
    archives: list[ArchiveRow]


def read(folder: Path) -> Manifest:
    """Read a bundle's manifest. Raises: ListingError: missing, torn or of another format."""
    try:
        manifest: Manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ListingError(f"{folder} has no {MANIFEST}", hint=rebuild_hint(folder)) from error
    except ValueError as error:
        raise ListingError(
            f"{folder / MANIFEST} is not JSON: {error}", hint=rebuild_hint(folder)
        ) from error
    if manifest.get("format") != FORMAT:
        raise ListingError(
            f"{folder} has format {manifest.get('format')!r}, its {MANIFEST} should have {FORMAT}",
            hint="use the tools of the release that built it",
        )
    return manifest


def verify(folder: Path) -> Manifest:
    """Check that every archive is there with its size and SHA-256.

    Raises: ListingError naming the file that is missing or differs.
    """
    manifest = read(folder)
    for archive in manifest["archives"]:
        path = folder / archive["file"]
        if not path.is_file():
            raise ListingError(f"{path} is missing", hint=rebuild_hint(folder))
        if path.stat().st_size != archive["size"] or sha256_of(path) != archive["sha256"]:
            raise ListingError(
                f"{path} is not the file of its manifest (SHA-256)", hint=rebuild_hint(folder)
            )
    return manifest
