"""Environments: what a node installs is pinned to the files that came along, the same each time."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from objectstore_infra.artefacts import environment
from objectstore_infra.artefacts.declaration import Environment
from objectstore_infra.artefacts.errors import ArtefactError
from objectstore_infra.artefacts.storage import Storage, StoredFile

ITEM = Environment("thing", "my-thing", ("own", "others"), "installer")
WHEELS = {
    "own": "my_thing-1.2.3+src.0f-py3-none-any.whl",
    "others": "other-2.0-py3-none-any.whl",
    "installer": "pip-26.3-py3-none-any.whl",
}


def made(storage: Storage, folder: Path) -> dict[str, list[StoredFile]]:
    found = {}
    for artefact, name in WHEELS.items():
        (folder / name).write_text(artefact)
        found[artefact] = [storage.take(folder / name)]
    return found


def pin(artefact: str) -> str:
    return f"--hash=sha256:{hashlib.sha256(artefact.encode()).hexdigest()}"


def test_all_but_the_installer_is_to_be_installed(tmp_path: Path):
    storage = Storage(tmp_path / "cache")
    (file,) = environment.make(ITEM, made(storage, tmp_path), storage)
    assert file.name == "thing.tar"
    with tarfile.open(storage.path(file)) as tar:
        assert set(tar.getnames()) == {*WHEELS.values(), "requirements.txt"}
        extracted = tar.extractfile("requirements.txt")
        assert extracted is not None
        lines = extracted.read().decode()
    assert lines == (
        f"my-thing==1.2.3+src.0f \\\n    {pin('own')}\nother==2.0 \\\n    {pin('others')}\n"
    )


def test_the_listing_tells_of_every_wheel_and_the_version_of_one(tmp_path: Path):
    wheels = made(Storage(tmp_path / "cache"), tmp_path)
    rows = environment.contents(ITEM, wheels)
    assert [row["name"] for row in rows] == ["my-thing", "other", "pip"]
    assert [row["file"] for row in rows] == list(WHEELS.values())
    assert environment.version_of(ITEM, wheels) == "1.2.3+src.0f"
    with pytest.raises(ArtefactError, match="none of its wheels is of absent"):
        environment.version_of(Environment("thing", "absent", ("own",), "installer"), wheels)


def test_the_same_wheels_give_the_same_archive_anywhere(tmp_path: Path):
    archives = []
    for name in ("one", "two"):
        storage = Storage(tmp_path / name)
        archives.append(environment.make(ITEM, made(storage, tmp_path), storage))
    assert archives[0] == archives[1]
