"""The listing of a bundle's files, and the signature that says who made it.

    VERSION/
    ├─ listing.json       version, suite, and per artefact its name, version, kind, source and
    │                     files, each with size and SHA-256
    ├─ listing.json.sig   ed25519 signature of listing.json's bytes, and the public key, as JSON
    └─ ARTEFACT/FILE      the files

The same inputs give the same listing, byte for byte: it holds no time and no name of a machine. The
signing key belongs to who builds bundles. Who installs one trusts public keys, never the key that
comes with the signature: that one only says which key to look for.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import TypedDict

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from objectstore_infra.artefacts.errors import ListingError
from objectstore_infra.artefacts.storage import sha256_of

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


class Listing(TypedDict):
    """What listing.json holds."""

    format: int
    version: str
    suite: str
    artefacts: list[ArtefactRow]


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the key at `path`, made there when there is none; only its owner can read it."""
    if path.exists():
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_bytes()))
    key = Ed25519PrivateKey.generate()
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(base64.b64encode(raw) + b"\n")
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """Return the public half as the text that others put on their list of trusted keys."""
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def write(folder: Path, listing: Listing, key: Ed25519PrivateKey) -> None:
    """Write the listing and its signature into a bundle's folder."""
    raw = (json.dumps(listing, indent=1, sort_keys=True) + "\n").encode()
    (folder / LISTING).write_bytes(raw)
    signature = {"key": public_text(key), "signature": base64.b64encode(key.sign(raw)).decode()}
    (folder / SIGNATURE).write_text(json.dumps(signature, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path, trusted: Collection[str]) -> Listing:
    """Return a bundle's listing once its signature is found good and of a trusted key.

    Raises: ListingError.
    """
    try:
        raw = (folder / LISTING).read_bytes()
        said = json.loads((folder / SIGNATURE).read_bytes())
        key, signature = said["key"], base64.b64decode(said["signature"], validate=True)
    except FileNotFoundError as error:
        raise ListingError(f"{error.filename} is missing", hint="copy the whole folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ListingError(f"{folder / SIGNATURE} is torn: {error}") from error
    if key not in trusted:
        raise ListingError(
            f"{folder} is signed with the key {key}, which is not trusted here",
            hint="if that is your builder's key, add it to the trusted ones",
        )
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(signature, raw)
    except InvalidSignature as error:
        raise ListingError(f"{folder / LISTING} was changed after it was signed") from error
    listing: Listing = json.loads(raw)
    if listing["format"] != FORMAT:
        raise ListingError(f"{folder} has format {listing['format']}, this version reads {FORMAT}")
    return listing


def verify(folder: Path, trusted: Collection[str]) -> Listing:
    """Check a bundle whole: signature, every file's size and SHA-256, and that there are no others.

    Raises: ListingError naming the file that is missing, differs or is not listed.
    """
    listing = read(folder, trusted)
    listed = {folder / LISTING, folder / SIGNATURE}
    for artefact in listing["artefacts"]:
        for row in artefact["files"]:
            path = folder / artefact["name"] / row["name"]
            listed.add(path)
            if not path.is_file():
                raise ListingError(f"{path} is missing", hint="copy the whole folder again")
            if path.stat().st_size != row["size"] or sha256_of(path) != row["sha256"]:
                raise ListingError(f"{path} is not the file of its listing (SHA-256)")
    extra = sorted(path for path in folder.rglob("*") if path.is_file() and path not in listed)
    if extra:
        raise ListingError(f"{extra[0]} is in the bundle but not listed")
    return listing
