"""Where a store's data lies in Ceph: the settings `--ceph-conf`, `--ceph-client`, `--ceph-pool`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError

CLIENT_DEFAULT = "client.objectstore"
_NAME = r"[\w.-]+"
_POOLS = re.compile(
    rf"(?P<log>{_NAME})(,(?P<open>{_NAME}))?(,(?P<cold>{_NAME}))?(/(?P<namespace>{_NAME}))?"
)


@dataclass(frozen=True, slots=True)
class CephPools:
    """`log` has heads, logs and bases; `open` chunk segments as they are written; `cold`, which may
    be erasure-coded, those that Atlas found to be old. Where `cold` is empty they stay in `open`.
    """

    log: str
    open: str
    cold: str = ""


@dataclass(frozen=True, slots=True)
class CephSettings:
    """Ceph's configuration file, our name there (`client.NAME`), the pools and a namespace in each
    of them, the store's id when empty.
    """

    conf: Path
    client: str
    pools: CephPools
    namespace: str


def ceph_settings(conf: str | None, client: str, pools: str | None) -> CephSettings | None:
    """None without a pool. Raises: SettingsError."""
    if not pools and not conf:
        return None
    if not pools or not conf:
        flag, other = ("--ceph-conf", "pool") if pools else ("--ceph-pool", "conf")
        raise SettingsError(flag, "not given", f"needed together with --ceph-{other}")
    found = _POOLS.fullmatch(pools)
    if found is None:
        raise SettingsError("--ceph-pool", pools, "POOL[,OPEN[,COLD]][/NAMESPACE]")
    path = Path(conf).absolute()
    if not os.access(path, os.R_OK):
        raise SettingsError("--ceph-conf", conf, "a file that can be read")
    named = CephPools(found["log"], found["open"] or found["log"], found["cold"] or "")
    return CephSettings(path, client, named, found["namespace"] or "")
