"""The content-addressed cache: whole or absent, never changed, shared by whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_infra.artefacts.storage import Storage, key_of


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
    assert storage.recall(key_of("inputs")) is None
    assert storage.remember(key_of("inputs"), files) == sorted(files)
    assert storage.recall(key_of("inputs")) == sorted(files)
    assert storage.recall(key_of("inputs", 1)) is None


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_file_that_is_gone_or_cut_is_made_again(storage: Storage, tmp_path: Path, damage: str):
    file = storage.take(a_file(tmp_path, "content"))
    storage.remember("key", [file])
    storage.path(file).unlink()
    if damage == "cut":
        storage.path(file).write_text("con")
    assert storage.recall("key") is None


def test_a_bundle_shares_the_bytes_of_the_cache(storage: Storage, tmp_path: Path):
    file = storage.take(a_file(tmp_path, "content"))
    target = tmp_path / "bundle" / "program"
    storage.link(file, target)
    assert target.stat().st_ino == storage.path(file).stat().st_ino
    assert target.stat().st_mode & 0o222 == 0
