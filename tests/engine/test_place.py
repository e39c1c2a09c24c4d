"""A store goes on where its data lies, and nowhere else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from objectstore_app.atlas.fsck import check
from objectstore_app.config.ceph import CephAccess, CephPools, CephSettings
from objectstore_app.media.local import LocalLog
from objectstore_app.media.place import placed, settle_place
from objectstore_app.media.store import StoreFolderError, open_store

CEPH = CephSettings(
    Path("/etc/ceph/ceph.conf"), "client.objectstore", CephPools("store", "store"), ""
)


def test_store_in_ceph_is_served_from_the_same_pool_and_namespace_only(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    settle_place(store, CEPH)
    settle_place(store, dataclasses.replace(CEPH, conf=Path("/elsewhere/ceph.conf")))
    settle_place(store, dataclasses.replace(CEPH, namespace=store.info.store_id))
    with pytest.raises(StoreFolderError, match="--ceph-pool"):
        settle_place(store, None)
    others = (
        {"pools": CephPools("other", "other")},
        {"pools": CephPools("store", "other")},
        {"namespace": "other"},
    )
    for other in others:
        with pytest.raises(StoreFolderError, match=f"store/{store.info.store_id}.*other"):
            settle_place(store, dataclasses.replace(CEPH, **other))


def test_pool_for_old_chunks_may_be_added_and_then_stays(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    settle_place(store, CEPH)
    cold = dataclasses.replace(CEPH, pools=CephPools("store", "store", "cold"))
    settle_place(store, cold)
    settle_place(store, cold)
    for pools in (CephPools("store", "store"), CephPools("store", "store", "colder")):
        with pytest.raises(StoreFolderError, match="store,store,cold/"):
            settle_place(store, dataclasses.replace(CEPH, pools=pools))


def test_note_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    (tmp_path / "ceph.json").write_text('{"pool":"store","namespace":"n"}')
    settle_place(store, dataclasses.replace(CEPH, namespace="n"))
    with pytest.raises(StoreFolderError, match="store/n"):
        settle_place(store, CEPH)


def test_who_works_on_a_store_finds_where_its_data_lies(tmp_path: Path) -> None:
    store, access = open_store(tmp_path), CephAccess(CEPH.conf, CEPH.client)
    assert placed(store, access) is None
    cold = dataclasses.replace(CEPH, pools=CephPools("log", "open", "cold"), namespace="n")
    settle_place(store, cold)
    assert placed(store, access) == cold
    with pytest.raises(StoreFolderError, match="--ceph-conf"):
        placed(store, None)
    with pytest.raises(StoreFolderError, match="--ceph-conf"):
        check(tmp_path)


def test_store_with_logs_in_its_folder_does_not_begin_anew_in_ceph(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    settle_place(store, None)
    LocalLog(store.shard(store.shards[0]), store.shards[0]).close()
    with pytest.raises(StoreFolderError, match="not in Ceph"):
        settle_place(store, CEPH)
    settle_place(store, None)


def test_damaged_note_is_told(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    (tmp_path / "ceph.json").write_text("{")
    with pytest.raises(StoreFolderError, match=r"ceph\.json"):
        settle_place(store, None)


def test_folders_for_views_are_made_again_on_a_new_disk(tmp_path: Path) -> None:
    old = open_store(tmp_path / "old", data_shards=2)
    settle_place(old, CEPH)
    (tmp_path / "new").mkdir()
    for name in ("store.json", "ceph.json"):
        shutil.copyfile(old.path / name, tmp_path / "new" / name)
    new = open_store(tmp_path / "new")
    settle_place(new, CEPH)
    assert all(new.shard(shard).is_dir() for shard in new.shards)
    assert new.tls.is_dir()
