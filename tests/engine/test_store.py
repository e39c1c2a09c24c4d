"""The data folder: made once, whole, refused where it is not ours or too new."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from objectstore_app.media.store import (
    STORE_FORMAT,
    StoreFolderError,
    StoreInUseError,
    open_store,
)


def test_first_start_makes_the_folder_and_later_ones_find_the_same_store(tmp_path: Path) -> None:
    made = open_store(tmp_path / "deep" / "data", data_shards=2, region="eu-1")
    again = open_store(tmp_path / "deep" / "data", data_shards=5)
    assert again.info == made.info
    assert (again.info.data_shards, again.info.region) == (2, "eu-1")
    assert len(made.master_key()) == 32
    assert made.master_key_path.stat().st_mode & 0o777 == 0o600
    assert made.master_key_path.parent.stat().st_mode & 0o777 == 0o700
    assert made.master_key() == again.master_key()


def test_interrupted_creation_goes_on(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "shard-000").mkdir()
    (tmp_path / ".store.json.tmp").write_text("{")
    assert open_store(tmp_path).info.format == STORE_FORMAT


def test_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(StoreFolderError, match=r"letter\.txt"):
        open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_newer_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    open_store(tmp_path)
    path = tmp_path / "store.json"
    content = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**content, "format": 2}))
    with pytest.raises(StoreFolderError, match=r"2 is newer than this release's 1"):
        open_store(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}'])
def test_damaged_description_is_refused(tmp_path: Path, content: bytes) -> None:
    open_store(tmp_path)
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(StoreFolderError, match="damaged"):
        open_store(tmp_path)


def test_missing_store_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(StoreFolderError, match="no store"):
        open_store(tmp_path / "data", create=False)
    assert not (tmp_path / "data").exists()


def test_lock_is_exclusive_and_ends_with_its_holder(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.lock("supervisor"), pytest.raises(StoreInUseError):
        store.lock("supervisor")
    store.lock("supervisor").release()
