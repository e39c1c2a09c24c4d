"""Bundles of earlier releases (format 1) are listed, verified and installed as ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from objectstore_infra import bundle
from objectstore_infra.artefacts import source, unsigned
from objectstore_infra.artefacts.errors import ListingError

PIP = {"name": "pip", "version": "26.3", "file": "pip-26.3-py3-none-any.whl", "size": 1}


def a_bundle(base: Path, version: str, content: str = "0.0.9+src.0123456789ab") -> Path:
    folder = base / version
    folder.mkdir(parents=True)
    archives = []
    for name in ("envoy", "objectstore"):
        text = f"{name} {version}".encode()
        (folder / f"{name}.tar").write_bytes(text)
        archives.append(
            {
                "name": name,
                "version": version,
                "file": f"{name}.tar",
                "size": len(text),
                "sha256": hashlib.sha256(text).hexdigest(),
                "contents": [PIP],
            }
        )
    manifest = {
        "format": 1,
        "version": version,
        "source": content,
        "built": "2026-01-02T03:04:05Z",
        "guest": {"python": "3.13", "machine": "x86_64"},
        "archives": archives,
    }
    (folder / unsigned.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_it_is_whole_and_installed_without_a_signature(tmp_path: Path):
    folder = a_bundle(tmp_path, "0.0.9")
    contents = bundle.verify(folder)
    assert contents == bundle.look(folder)
    assert (contents["version"], contents["signer"], contents["trusted"]) == ("0.0.9", "", True)
    assert [row["file"] for row in contents["archives"]] == ["envoy.tar", "objectstore.tar"]
    assert contents["archives"][0]["contents"] == [PIP]
    assert contents["guest"] == {"python": "3.13", "machine": "x86_64"}
    assert bundle.available(tmp_path) == ["0.0.9"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", "envoy.tar is missing"),
        ("changed", "envoy.tar is not the file"),
        ("torn", "manifest.json is not JSON"),
        ("later", "has format 3"),
        ("empty", "has no listing.json"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: str, said: str):
    folder = a_bundle(tmp_path, "0.0.9")
    manifest, archive = folder / unsigned.MANIFEST, folder / "envoy.tar"
    match damage:
        case "missing":
            archive.unlink()
        case "changed":
            archive.write_bytes(archive.read_bytes().swapcase())
        case "torn":
            manifest.write_text(manifest.read_text()[:-5])
        case "later":
            manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 3'))
        case "empty":
            manifest.unlink()
    with pytest.raises(ListingError, match=said):
        bundle.verify(folder)


def test_one_of_this_trees_content_is_kept(tree: Path, tmp_path: Path):
    declared = tree / source.DECLARED / "manifest.in"
    declared.write_text(declared.read_text() + "[profiles]\nplatform = []\n")
    content = source.content_version(tree)
    folder = a_bundle(tmp_path / "out", content, content)
    made = bundle.build(root=tree, output=tmp_path / "out")
    assert made.path == folder
    assert bundle.look(folder)["format"] == unsigned.FORMAT
