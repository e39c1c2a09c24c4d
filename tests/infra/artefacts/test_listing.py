"""The listing: signed by a trusted key, every file as listed, nothing else in the folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from objectstore_infra.artefacts import listing
from objectstore_infra.artefacts.errors import ListingError


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "bundle-key"


@pytest.fixture
def trusted(key_file: Path) -> set[str]:
    return {listing.public_text(listing.signing_key(key_file))}


@pytest.fixture
def folder(tmp_path: Path, key_file: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "program").mkdir(parents=True)
    content = b"content"
    (folder / "program" / "run").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    listed: listing.Listing = {
        "format": listing.FORMAT,
        "version": "1.2.3",
        "suite": "trixie",
        "artefacts": [
            {
                "name": "program",
                "version": "1",
                "kind": "go",
                "source": "Go module example.org/program v1",
                "files": [{"name": "run", "size": 7, "sha256": digest}],
            }
        ],
    }
    listing.write(folder, listed, listing.signing_key(key_file))
    return folder


def test_a_whole_bundle_of_a_trusted_key_is_accepted(folder: Path, trusted: set[str]):
    assert listing.verify(folder, trusted)["version"] == "1.2.3"


def test_the_key_is_kept_private_and_used_again(key_file: Path, trusted: set[str]):
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert listing.public_text(listing.signing_key(key_file)) in trusted


def test_another_key_is_not_trusted_because_it_came_along(folder: Path, tmp_path: Path):
    other = listing.public_text(listing.signing_key(tmp_path / "other"))
    with pytest.raises(ListingError, match="not trusted here"):
        listing.verify(folder, {other})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("listing changed", "changed after it was signed"),
        ("file changed", "run is not the file"),
        ("file cut", "run is not the file"),
        ("file missing", "run is missing"),
        ("file added", "extra is in the bundle but not listed"),
        ("signature missing", "listing.json.sig is missing"),
        ("signature torn", "torn"),
        ("listing missing", "listing.json is missing"),
    ],
)
def test_damage_is_named(folder: Path, trusted: set[str], damage: str, said: str):
    subject, _, what = damage.partition(" ")
    names = {"listing": listing.LISTING, "signature": listing.SIGNATURE, "file": "program/run"}
    path = folder / names[subject]
    match what:
        case "changed":
            path.write_bytes(path.read_bytes().replace(b"t", b"T", 1))
        case "cut" | "torn":
            path.write_bytes(path.read_bytes()[:-3])
        case "missing":
            path.unlink()
        case "added":
            (folder / "program" / "extra").touch()
    with pytest.raises(ListingError, match=said):
        listing.verify(folder, trusted)


def test_the_listing_of_equal_content_is_the_same_bytes(folder: Path, key_file: Path):
    before = (folder / listing.LISTING).read_bytes()
    listing.write(folder, json.loads(before), listing.signing_key(key_file))
    assert (folder / listing.LISTING).read_bytes() == before
