"""The listing of a bundle's files, and the signature that says who made it.

    VERSION/
    ├─ listing.json       version, what it was built from and for, and per artefact its name,
    │                     version, kind, source and files, each with size and SHA-256
    ├─ listing.json.sig   ed25519 signature of listing.json's bytes, and the public key, as JSON
    └─ ARTEFACT/FILE      the files

The same inputs give the same listing, byte for byte: it holds no time and no name of a machine. The
signing key belongs to who builds bundles. Who installs one trusts public keys, never the key that
comes with the signature: that one only says which key to look for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from objectstore_infra.artefacts.errors import ListingError
from objectstore_infra.artefacts.storage import sha256_of
from objectstore_infra.artefacts.trust import public_text
from objectstore_infra.artefacts.wheels import PackageRow

FORMAT = 2
LISTING = "listing.json"
SIGNATURE = "listing.json.sig"


class FileRow(TypedDict):
    """One file of an artefact."""

    name: str
    size: int
    sha256: str


class ArtefactRow(TypedDict):
    """One artefact; `source` says what it was made from, for people and for audits."""

    name: str
    version: str
    kind: str
    source: str
    files: list[FileRow]
    contents: NotRequired[list[PackageRow]]
    """Of an environment: the wheels inside its archive."""


class NodesRow(TypedDict):
    """What nodes hold of a bundle."""

    packages: list[str]
    """Names of Debian artefacts: installed."""
    files: list[str]
    """ARTEFACT/FILE: kept below one folder."""
    store: list[str]
    """As `files`, but what changes with the source of the store."""


class Listing(TypedDict):
    """What listing.json holds; `source` is the content version of the tree it was built from."""

    format: int
    version: str
    source: str
    suite: str
    guest: dict[str, str]
    nodes: NotRequired[NodesRow]
    """Missing from bundles built before there was a platform."""
    artefacts: list[ArtefactRow]


@dataclass(frozen=True, slots=True)
class Signed:
    """A listing whose signature is good, and the key that made it: not yet one to be trusted."""

    listing: Listing
    key: str


def write(folder: Path, listing: Listing, key: Ed25519PrivateKey) -> None:
    """Write the listing and its signature into a bundle's folder."""
    raw = (json.dumps(listing, indent=1, sort_keys=True) + "\n").encode()
    (folder / LISTING).write_bytes(raw)
    signature = {"key": public_text(key), "signature": base64.b64encode(key.sign(raw)).decode()}
    (folder / SIGNATURE).write_text(json.dumps(signature, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> Signed:
    """Return a bundle's listing once its signature is found good.

    Raises: ListingError.
    """
    try:
        raw = (folder / LISTING).read_bytes()
        said = json.loads((folder / SIGNATURE).read_bytes())
        key, signature = said["key"], base64.b64decode(said["signature"], validate=True)
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(signature, raw)
    except FileNotFoundError as error:
        raise ListingError(f"{error.filename} is missing", hint=rebuild_hint(folder)) from error
    except InvalidSignature as error:
        raise ListingError(
            f"{folder / LISTING} was changed after it was signed", hint=rebuild_hint(folder)
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ListingError(
            f"{folder / SIGNATURE} is torn: {error}", hint=rebuild_hint(folder)
        ) from error
    listing: Listing = json.loads(raw)
    if listing.get("format") != FORMAT:
        raise ListingError(
            f"{folder} has format {listing.get('format')!r}, this version reads {FORMAT}",
            hint="use the tools of the release that built it",
        )
    return Signed(listing, key)


def verify(folder: Path, trusted: Collection[str]) -> Signed:
    """Check a bundle whole: signature, every file's size and SHA-256, and that there are no others.

    Raises: ListingError naming the key that is not trusted, or the file that is missing, differs or
    is not listed.
    """
    found = read(folder)
    if found.key not in trusted:
        raise ListingError(
            f"{folder} is signed with the key {found.key}, which is not trusted here",
            hint=f"if you know that it is your builder's key: objectstore bundle trust {found.key}",
        )
    expected = {folder / LISTING, folder / SIGNATURE}
    for path, row in files(folder, found.listing):
        expected.add(path)
        if not path.is_file():
            raise ListingError(f"{path} is missing", hint=rebuild_hint(folder))
        if path.stat().st_size != row["size"] or sha256_of(path) != row["sha256"]:
            raise ListingError(
                f"{path} is not the file of its listing (SHA-256)", hint=rebuild_hint(folder)
            )
    extra = sorted(path for path in folder.rglob("*") if path.is_file() and path not in expected)
    if extra:
        raise ListingError(f"{extra[0]} is in the bundle but not listed", hint=rebuild_hint(folder))
    return found


def files(folder: Path, listing: Listing) -> Iterator[tuple[Path, FileRow]]:
    """Every file of a bundle: where it lies, and its row."""
    for artefact in listing["artefacts"]:
        for row in artefact["files"]:
            yield folder / artefact["name"] / row["name"], row


def rebuild_hint(folder: Path) -> str:
    """What to do about a bundle that is not whole."""
    return (
        f"copy the whole folder again, or build it anew: objectstore bundle build --version "
        f"{folder.name} --replace"
    )
