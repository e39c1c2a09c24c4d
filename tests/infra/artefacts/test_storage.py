"""The content-addressed cache: whole or absent, never changed, shared by whoever asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from objectstore_infra.artefacts.storage import KEPT_PER_NAME, Storage, StoredFile, key_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "cache")


def a_file(folder: Path, text: str, name: str = "program") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_equal_content_is_kept_once_under_any_name(storage: Storage, tmp_path: Path):
    one = storage.take(a_file(tmp_path, "content"))
    two = storage.take(a_file(tmp_path, "content", "other"))
    assert storage.path(one) == storage.path(two)
    assert (one.name, two.name, one.size) == ("program", "other", 7)


def test_what_was_made_is_recalled_by_what_it_was_made_from(storage: Storage, tmp_path: Path):
    files = [storage.take(a_file(tmp_path, text, text)) for text in ("b", "a")]
    assert storage.recall("thing", key_of("inputs")) is None
    assert storage.remember("thing", key_of("inputs"), files) == sorted(files)
    assert storage.recall("thing", key_of("inputs")) == sorted(files)
    assert storage.recall("thing", key_of("inputs", 1)) is None
    assert storage.recall("other", key_of("inputs")) is None


@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_damaged_file_is_not_handed_out_and_is_put_right(
    storage: Storage, tmp_path: Path, damage: str
):
    file = storage.take(a_file(tmp_path, "content"))
    storage.remember("thing", "key", [file])
    storage.path(file).unlink()
    if damage != "missing":
        storage.path(file).write_text({"cut": "con", "changed": "CONTENT"}[damage])
    assert storage.recall("thing", "key") is None
    assert storage.take(a_file(tmp_path, "content")) == file
    assert storage.recall("thing", "key") == [file]


def aged(storage: Storage, file: StoredFile) -> StoredFile:
    os.utime(storage.path(file), (0, 0))
    return file


def test_what_each_name_gave_last_is_kept_and_the_rest_goes(storage: Storage, tmp_path: Path):
    for number in range(KEPT_PER_NAME + 1):
        kept = aged(storage, storage.take(a_file(tmp_path, f"content {number}")))
        storage.remember("thing", str(number), [kept])
        os.utime(tmp_path / "cache" / "made" / "thing" / f"{number}.json", (number, number))
    unnamed = aged(storage, storage.take(a_file(tmp_path, "unnamed")))
    young = storage.take(a_file(tmp_path, "young"))
    assert storage.recall("thing", "0")
    storage.drop_old()
    known = [storage.recall("thing", str(number)) for number in range(KEPT_PER_NAME + 1)]
    assert [bool(files) for files in known] == [True, False, True, True, True, True]
    assert storage.path(young).exists()
    assert not storage.path(unnamed).exists()
    assert len(list((tmp_path / "cache" / "files").iterdir())) == KEPT_PER_NAME + 1


def test_a_bundle_shares_the_bytes_of_the_cache(storage: Storage, tmp_path: Path):
    file = storage.take(a_file(tmp_path, "content"))
    target = tmp_path / "bundle" / "program"
    storage.link(file, target)
    assert target.stat().st_ino == storage.path(file).stat().st_ino
    assert target.stat().st_mode & 0o222 == 0
