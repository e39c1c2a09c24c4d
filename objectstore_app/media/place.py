"""Where a store's logs and chunks lie: in its folder, or in pools of Ceph.

That is told at the store's first start, noted in `ceph.json`, and checked at every later one: the
views in a folder are of one log, and go wrong over any other. A pool for old chunks may be added.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..config.ceph import CephAccess, CephPools, CephSettings
from .store import Store, StoreFolderError, write_durably


class _Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """`pool` is that of the logs, `open` that of chunks unless it is the same, `cold` that of old
    chunks, if there is one.
    """

    pool: str
    namespace: str
    open: str = ""
    cold: str = ""

    def __str__(self) -> str:
        pools = ",".join(
            filter(None, (self.pool, self.open or (self.cold and self.pool), self.cold))
        )
        return f"{pools}/{self.namespace}"


def settle_place(store: Store, ceph: CephSettings | None) -> None:
    """Note where the data lies, at the first start; make the folders for what can be made anew from
    Ceph. Raises StoreFolderError when the data lies elsewhere than is told now.
    """
    known = _known(store)
    if ceph is None:
        if known is not None:
            raise _refused(store, known, "give --ceph-conf and --ceph-pool")
        return
    told = _place(ceph, ceph.namespace or store.info.store_id)
    if known is not None and msgspec.structs.replace(known, cold=known.cold or told.cold) != told:
        raise _refused(store, known, f"not in {told}")
    if any(True for shard in store.shards for _ in store.shard(shard).glob("log-*.seg")):
        raise StoreFolderError(
            "open store", str(store.path), "its data lies in this folder, not in Ceph"
        )
    if known != told:
        write_durably(_note(store), msgspec.json.encode(told) + b"\n")
    # Of what lies in the folder only identity and keys have to survive a lost disk.
    for folder in map(store.shard, store.shards):
        folder.mkdir(mode=0o700, exist_ok=True)
    store.tls.mkdir(mode=0o755, exist_ok=True)


def placed(store: Store, access: CephAccess | None) -> CephSettings | None:
    """Where the store's data lies, with `access` to it if that is in Ceph; None: in its folder.
    Raises StoreFolderError.
    """
    known = _known(store)
    if known is None:
        return None
    if access is None:
        raise _refused(store, known, "give --ceph-conf")
    pools = CephPools(known.pool, known.open or known.pool, known.cold)
    return CephSettings(access.conf, access.client, pools, known.namespace)


def _place(ceph: CephSettings, namespace: str) -> _Place:
    pools = ceph.pools
    return _Place(pools.log, namespace, pools.open if pools.open != pools.log else "", pools.cold)


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
        f"its data lies in Ceph, {known}: {said}",
    )
