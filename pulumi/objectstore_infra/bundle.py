"""Bundles: all that the nodes install, as one folder, so that they need no network.

    BUNDLES/VERSION/
    ├─ listing.json, listing.json.sig    what is in it, signed (artefacts/listing.py)
    ├─ objectstore/objectstore.tar       a Python environment: our wheel and what it needs
    ├─ envoy/envoy.tar                   the same for Envoy
    └─ …                                 what the profile adds (artefacts/files/manifest.in)

A bundle's version is given (a release) or made from the content of the source tree, and content
does not change under a version: what is there already is kept if it holds this tree's content, else
refused.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from packaging.version import InvalidVersion, Version

from objectstore_infra.artefacts import listing, source, trust
from objectstore_infra.artefacts.builder import MIB, Builder, Report
from objectstore_infra.artefacts.errors import BundleError, ListingError
from objectstore_infra.artefacts.listing import ArtefactRow
from objectstore_infra.artefacts.storage import cache_dir
from objectstore_infra.artefacts.wheels import PackageRow

PROFILE = "platform"
"""What a deployment is made of."""
SOURCE_BUNDLES_KEPT = 5


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished bundle: its version and its folder."""

    version: str
    path: Path


class ArchiveRow(PackageRow):
    """A Python environment for nodes: its archive, and the wheels in it."""

    contents: list[PackageRow]


class Contents(TypedDict):
    """What a bundle is and holds."""

    format: int
    version: str
    source: str
    """The content version of the tree it was built from."""
    built: str
    guest: dict[str, str]
    signer: str
    """The public key of who built it."""
    trusted: bool
    """Whether this machine installs it."""
    archives: list[ArchiveRow]
    """The Python environments, `file` from the bundle's folder on."""
    artefacts: list[ArtefactRow]
    """Everything in it."""


def bundles_dir() -> Path:
    """Where the operator's bundles lie, one folder per version."""
    return cache_dir() / "bundles"


def build(
    version: str | None = None,
    *,
    profile: str = PROFILE,
    root: Path = source.REPOSITORY,
    output: Path | None = None,
    report: Report = lambda line: None,
    replace: bool = False,
    fresh: bool = False,
) -> Bundle:
    """Build the bundle of `version` (default: of this tree's content) unless it exists already.

    `output` is the folder that holds the bundles. An existing bundle of that version is verified
    and kept when it holds this tree's content and all of the profile. Otherwise a release is
    refused, or replaced when `replace` says so; what is named after its content is built anew.
    `fresh` replaces too, and asks Debian for its current packages. The folder appears under its
    final name only when it is complete.

    Raises: BundleError.
    """
    content = source.content_version(root)
    version = canonical(version) if version else content
    folder = (output or bundles_dir()) / version
    builder = Builder(root, version, report)
    names = builder.declared.shipped(profile)
    if folder.is_dir() and not replace and not fresh:
        obstacle = why_not_kept(folder, content, profile, names)
        if not obstacle:
            report(f"bundle {version} is up to date: {folder}")
            return Bundle(version, folder)
        if version != content:
            raise BundleError(
                f"bundle {version} exists and {obstacle}",
                hint="give the new content a version of its own, or replace it on purpose with "
                "--replace",
            )
        builder.say(f"bundle {version} is built anew: it {obstacle}")
    builder.make(names, fresh=fresh)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as scratch:
        staged = Path(scratch) / "bundle"
        staged.mkdir()
        size = builder.lay_out(staged, names)
        if folder.is_dir():
            folder.rename(Path(scratch) / "replaced")
        staged.rename(folder)
    if version == content:
        drop_old_source_bundles(folder)
    builder.say(f"bundle {version} is ready, {size / MIB:.0f} MiB: {folder}")
    return Bundle(version, folder)


def why_not_kept(folder: Path, content: str, profile: str, names: tuple[str, ...]) -> str:
    """Why an existing bundle is not the one that is to be built; empty: it is."""
    try:
        known = look(folder)
        if known["source"] != content:
            return "holds other content than this tree"
        if not known["trusted"]:
            return "is signed with a key that is not trusted here"
        held = {row["name"] for row in (*known["archives"], *known["artefacts"])}
        if not held.issuperset(names):
            return f"lacks what the profile {profile} adds"
        verify(folder)
    except ListingError as error:
        return f"is damaged: {error.message}"
    return ""


def lock(names: Collection[str], report: Report) -> None:
    """Bring the lock files of Go artefacts, all or those named, to what is declared."""
    root = source.REPOSITORY
    Builder(root, source.declared_version(root), report).lock(names)


def drop_old_source_bundles(newest: Path) -> None:
    """Keep the last few bundles made from a working tree; releases are the operator's to remove."""
    made = [path for path in found(newest.parent) if source.MARK in path.name]
    made.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in made[SOURCE_BUNDLES_KEPT:]:
        shutil.rmtree(folder)


def canonical(version: str) -> str:
    """Return a version as PEP 440 writes it. Raises: BundleError: it is none."""
    try:
        return str(Version(version))
    except InvalidVersion as error:
        raise BundleError(
            f"{version!r} is no version", hint="a version reads like 1.4.2 or 1.5.0rc1 (PEP 440)"
        ) from error


def look(folder: Path) -> Contents:
    """Read what a bundle holds, its files unseen. Raises: ListingError: missing, torn, changed."""
    return _contents(folder, listing.read(folder))


def verify(folder: Path) -> Contents:
    """Check a bundle whole, and that it is of a builder whom this machine trusts.

    Raises: ListingError naming the file that is missing or differs, or the key.
    """
    return _contents(folder, listing.verify(folder, trust.trusted()))


def available(output: Path | None = None) -> list[str]:
    """The versions of the bundles on the operator's side, oldest release first."""
    return sorted((path.name for path in found(output or bundles_dir())), key=Version)


def found(base: Path) -> list[Path]:
    """The folders of the bundles below `base`."""
    folders = (path.parent for path in base.glob(f"*/{listing.LISTING}"))
    return [folder for folder in folders if folder.name[0] != "."]


def _contents(folder: Path, signed: listing.Signed) -> Contents:
    listed = signed.listing
    built_s = (folder / listing.LISTING).stat().st_mtime
    return {
        "format": listed["format"],
        "version": listed["version"],
        "source": listed["source"],
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(built_s)),
        "guest": listed["guest"],
        "signer": signed.key,
        "trusted": signed.key in trust.trusted(),
        "archives": [_archive(row) for row in listed["artefacts"] if "contents" in row],
        "artefacts": listed["artefacts"],
    }


def _archive(row: ArtefactRow) -> ArchiveRow:
    (file,) = row["files"]
    return {
        "name": row["name"],
        "version": row["version"],
        "file": f"{row['name']}/{file['name']}",
        "size": file["size"],
        "sha256": file["sha256"],
        "contents": row["contents"],
    }
