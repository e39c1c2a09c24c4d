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


@dataclass(frozen=True, slots=True)
class CephAccess:
    """How to reach a cluster: Ceph's configuration file, our name there."""

    conf: Path
    client: str


def ceph_access(conf: str | None, client: str) -> CephAccess | None:
    """None without a configuration file. Raises: SettingsError."""
    if not conf:
        return None
    path = Path(conf).absolute()
    if not os.access(path, os.R_OK):
        raise SettingsError("--ceph-conf", conf, "a file that can be read")
    return CephAccess(path, client)


def ceph_settings(conf: str | None, client: str, pools: str | None) -> CephSettings | None:
    """None without a pool. Raises: SettingsError."""
    access = ceph_access(conf, client)
    if not pools and access is None:
        return None
    if not pools or access is None:
        flag, other = ("--ceph-conf", "pool") if pools else ("--ceph-pool", "conf")
        raise SettingsError(flag, "not given", f"needed together with --ceph-{other}")
    found = _POOLS.fullmatch(pools)
    if found is None:
        raise SettingsError("--ceph-pool", pools, "POOL[,OPEN[,COLD]][/NAMESPACE]")
    named = CephPools(found["log"], found["open"] or found["log"], found["cold"] or "")
    return CephSettings(access.conf, access.client, named, found["namespace"] or "")
