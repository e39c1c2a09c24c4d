"""The settings of `objectstore service NAME`: what a pod is told by its file and its environment.

One TOML file, `service.toml`; those of a store's services differ in few keys, and a service passes
over what is another one's business. An unknown key is an error. What differs between pods of one
service comes from the environment: POD_NAME and POD_IP.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .atlas import (
    GRACE_S_DEFAULT,
    INTERVAL_S_DEFAULT,
    RATE_MIB_DEFAULT,
    UPLOAD_DAYS_DEFAULT,
    AtlasSettings,
    atlas_settings,
)
from .ceph import CephPools, CephSettings
from .errors import SettingsError
from .settings import LOG_FORMATS, REGION_DEFAULT, Address, address

SHARDS_MAX = 999
SESSION_S_DEFAULT = 3.0


class _Pools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names that `CephPools` has."""

    log: str
    open: str
    cold: str = ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of the file. Paths are texts here."""

    store: str
    shards: int
    data: str
    zookeeper: list[str]
    cluster_ca: str
    cluster_cert: str
    cluster_key: str
    region: str = REGION_DEFAULT
    domain: list[str] = []
    listen: str = "0.0.0.0:7200"
    cluster_listen: str = "0.0.0.0:7201"
    health_listen: str = "0.0.0.0:7203"
    workers: int = 2
    zookeeper_ca: str = ""
    zookeeper_cert: str = ""
    zookeeper_key: str = ""
    zookeeper_session: float = SESSION_S_DEFAULT
    master_key: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    encryption: str = "none"
    compression: str = "none"
    log_format: str = "json"
    drain_grace: float = 0.0
    atlas_interval: float = INTERVAL_S_DEFAULT
    atlas_grace: float = GRACE_S_DEFAULT
    atlas_rate: float = RATE_MIB_DEFAULT
    upload_days: float = UPLOAD_DAYS_DEFAULT
    ceph_conf: str = ""
    ceph_client: str = ""
    ceph_pools: _Pools | None = None


@dataclass(frozen=True, slots=True)
class ClusterTls:
    """Files of the mutual TLS between pods, or to ZooKeeper: the authority's certificate, our own
    and its key.
    """

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ZooKeeperSettings:
    """Where the ensemble is and how to speak to it. `tls` None: in the clear, for tests. `root` is
    the store's own folder there. `session_s`: how long a pod may be silent before its shards go to
    others.
    """

    hosts: tuple[Address, ...]
    root: str
    tls: ClusterTls | None
    session_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What a pod was told. `address` is where others reach its gateway; `listen` where clients are
    served. `data` is disposable. `tls` is what clients see. `master_key` None: not this service's
    business.
    """

    store: str
    data_shards: int
    region: str
    domains: tuple[str, ...]
    pod: str
    address: Address
    data: Path
    listen: Address
    cluster_listen: Address
    health_listen: Address
    cluster_tls: ClusterTls
    zookeeper: ZooKeeperSettings
    ceph: CephSettings | None
    atlas: AtlasSettings
    workers: int
    master_key: Path | None
    tls: tuple[Path, Path] | None
    encrypted: bool
    compressed: bool
    log_format: str
    drain_grace_s: float

    @property
    def run(self) -> Path:
        """Where the processes of the pod meet: sockets, locks, the copy of the shard map."""
        return self.data / "run"


def service_settings(path: Path, environment: Mapping[str, str]) -> ServiceSettings:
    """Read the file and check all of it. Raises: SettingsError naming key, value and what would be
    right.
    """
    given = _read(path)
    _check(1 <= given.shards <= SHARDS_MAX, "shards", given.shards, f"1 to {SHARDS_MAX}")
    _check(bool(given.zookeeper), "zookeeper", "[]", "HOST:PORT of each server")
    _check(1 <= given.zookeeper_session <= 60, "zookeeper_session", given.zookeeper_session,
           "1 to 60 seconds")  # fmt: skip
    _check(
        given.log_format in LOG_FORMATS, "log_format", given.log_format, " or ".join(LOG_FORMATS)
    )
    pod = environment.get("POD_NAME") or os.uname().nodename
    cluster_listen = address(given.cluster_listen, "cluster_listen")
    host = environment.get("POD_IP") or cluster_listen.host
    _check(not _is_any(host), "POD_IP", "not set", "the address others reach this pod at")
    return ServiceSettings(
        store=given.store,
        data_shards=given.shards,
        region=given.region,
        domains=tuple(given.domain),
        pod=pod,
        address=Address(host, cluster_listen.port),
        data=Path(given.data).absolute(),
        listen=address(given.listen, "listen"),
        cluster_listen=cluster_listen,
        health_listen=address(given.health_listen, "health_listen"),
        cluster_tls=_files(given, "cluster"),
        zookeeper=ZooKeeperSettings(
            tuple(address(one, "zookeeper") for one in given.zookeeper),
            f"/objectstore/{given.store}",
            _files(given, "zookeeper") if given.zookeeper_ca else None,
            given.zookeeper_session,
        ),
        ceph=_ceph(given),
        atlas=atlas_settings(
            interval=given.atlas_interval,
            grace=given.atlas_grace,
            rate=given.atlas_rate,
            upload_days=given.upload_days,
        ),
        workers=given.workers,
        master_key=_file("master_key", given.master_key) if given.master_key else None,
        tls=_pair(given),
        encrypted=given.encryption != "none",
        compressed=given.compression != "none",
        log_format=given.log_format,
        drain_grace_s=given.drain_grace,
    )


def _read(path: Path) -> _File:
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), _File)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError("--config", str(path), str(error)) from error
    except msgspec.ValidationError as error:
        raise SettingsError(str(path), "not as it should be", str(error)) from error


def _files(given: _File, group: str) -> ClusterTls:
    names = [f"{group}_{kind}" for kind in ("ca", "cert", "key")]
    return ClusterTls(*(_file(name, getattr(given, name)) for name in names))


def _pair(given: _File) -> tuple[Path, Path] | None:
    if not given.tls_cert and not given.tls_key:
        return None
    return _file("tls_cert", given.tls_cert), _file("tls_key", given.tls_key)


def _ceph(given: _File) -> CephSettings | None:
    if not given.ceph_conf:
        return None
    if given.ceph_pools is None or not given.ceph_client:
        raise SettingsError("ceph_conf", given.ceph_conf, "needs ceph_client and ceph_pools")
    conf = _file("ceph_conf", given.ceph_conf)
    told = given.ceph_pools
    return CephSettings(
        conf, given.ceph_client, CephPools(told.log, told.open, told.cold), given.store
    )


def _is_any(host: str) -> bool:
    """Whether it stands for every address of the machine, so that nobody can be told it."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _file(key: str, value: str) -> Path:
    path = Path(value).absolute()
    _check(bool(value) and os.access(path, os.R_OK), key, value or "not given", "a readable file")
    return path


def _check(holds: bool, key: str, value: object, right: str) -> None:
    if not holds:
        raise SettingsError(key, str(value), right)
