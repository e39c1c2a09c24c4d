"""Where a store's logs and chunks lie: in its folder, or in a pool of Ceph.

That is told at the store's first start, noted in `ceph.json`, and checked at every later one: the
views in a folder are of one log, and go wrong over any other.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..config.ceph import CephSettings
from .store import Store, StoreFolderError, write_durably


class _Place(msgspec.Struct, frozen=True):
    pool: str
    namespace: str


def settle_place(store: Store, ceph: CephSettings | None) -> None:
    """Note where the data lies, at the first start; make the folders for what can be made anew from
    Ceph. Raises StoreFolderError when the data lies elsewhere than is told now.
    """
    known = _known(store)
    if ceph is None:
        if known is not None:
            raise _refused(store, known, "give --ceph-conf and --ceph-pool")
        return
    told = _Place(ceph.pool, ceph.namespace or store.info.store_id)
    if known is not None and known != told:
        raise _refused(store, known, f"not in {told.pool}/{told.namespace}")
    if any(True for shard in store.shards for _ in store.shard(shard).glob("log-*.seg")):
        raise StoreFolderError(
            "open store", str(store.path), "its data lies in this folder, not in Ceph"
        )
    if known is None:
        write_durably(_note(store), msgspec.json.encode(told) + b"\n")
    # Of what lies in the folder only identity and keys have to survive a lost disk.
    for folder in map(store.shard, store.shards):
        folder.mkdir(mode=0o700, exist_ok=True)
    store.tls.mkdir(mode=0o755, exist_ok=True)


def require_folder(store: Store) -> None:
    """For what works on files alone. Raises StoreFolderError where the data lies in Ceph."""
    known = _known(store)
    if known is not None:
        raise _refused(store, known, "this works on the files of a folder only")


def _note(store: Store) -> Path:
    return store.path / "ceph.json"


def _known(store: Store) -> _Place | None:
    try:
        return msgspec.json.decode(_note(store).read_bytes(), type=_Place)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreFolderError("open store", str(_note(store)), str(error)) from error


def _refused(store: Store, known: _Place, said: str) -> StoreFolderError:
    return StoreFolderError(
        "open store",
        str(store.path),
        f"its data lies in Ceph's pool {known.pool}, namespace {known.namespace}: {said}",
    )
