"""Where a store's data lies in Ceph: the settings `--ceph-conf`, `--ceph-client`, `--ceph-pool`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError

CLIENT_DEFAULT = "client.objectstore"
_POOL = re.compile(r"(?P<pool>[\w.-]+)(/(?P<namespace>[\w.-]+))?")


@dataclass(frozen=True, slots=True)
class CephSettings:
    """Ceph's configuration file, our name there (`client.NAME`), a pool and a namespace in it,
    the store's id when empty.
    """

    conf: Path
    client: str
    pool: str
    namespace: str


def ceph_settings(conf: str | None, client: str, pool: str | None) -> CephSettings | None:
    """None without a pool. Raises: SettingsError."""
    if not pool and not conf:
        return None
    if not pool or not conf:
        flag, other = ("--ceph-conf", "pool") if pool else ("--ceph-pool", "conf")
        raise SettingsError(flag, "not given", f"needed together with --ceph-{other}")
    found = _POOL.fullmatch(pool)
    if found is None:
        raise SettingsError("--ceph-pool", pool, "POOL or POOL/NAMESPACE")
    path = Path(conf).absolute()
    if not os.access(path, os.R_OK):
        raise SettingsError("--ceph-conf", conf, "a file that can be read")
    return CephSettings(path, client, found["pool"], found["namespace"] or "")
