"""The listing: signed by a trusted key, every file as listed, nothing else in the folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from objectstore_infra.artefacts import listing, trust
from objectstore_infra.artefacts.errors import ListingError


@pytest.fixture
def trusted() -> set[str]:
    return {trust.public_text(trust.own_key())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "program").mkdir(parents=True)
    content = b"content"
    (folder / "program" / "run").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    listed: listing.Listing = {
        "format": listing.FORMAT,
        "version": "1.2.3",
        "source": "1.2.3+src.0123456789ab",
        "suite": "trixie",
        "guest": {"python": "3.13", "machine": "x86_64"},
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
    listing.write(folder, listed, trust.own_key())
    return folder


def test_a_whole_bundle_of_a_trusted_key_is_accepted(folder: Path, trusted: set[str]):
    found = listing.verify(folder, trusted)
    assert (found.listing["version"], {found.key}) == ("1.2.3", trusted)


def test_a_key_is_not_trusted_because_it_came_along(folder: Path):
    key = listing.read(folder).key
    with pytest.raises(ListingError, match="not trusted here") as refused:
        listing.verify(folder, {key[::-1]})
    assert f"objectstore bundle trust {key}" in str(refused.value)


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


def test_the_listing_of_equal_content_is_the_same_bytes(folder: Path):
    before = (folder / listing.LISTING).read_bytes()
    listing.write(folder, json.loads(before), trust.own_key())
    assert (folder / listing.LISTING).read_bytes() == before
