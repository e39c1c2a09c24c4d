"""The settings of `objectstore serve`: checked once, frozen, passed down.

Where a value comes from, first hit wins: flag, environment variable `OBJECTSTORE_<NAME>`, the TOML
file of `--config`, the default here. An unknown key in the file is an error, so that a misspelt
setting is never silently ignored. Keys of the file are the flags without the leading dashes and
with underscores: `data = "/srv/objects"`, `domain = ["s3.example.com"]`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .atlas import (
    GRACE_S_DEFAULT,
    INTERVAL_S_DEFAULT,
    RATE_MIB_DEFAULT,
    UPLOAD_DAYS_DEFAULT,
    AtlasSettings,
    atlas_settings,
)
from .ceph import CLIENT_DEFAULT, CephSettings, ceph_settings
from .errors import SettingsError

LISTEN_DEFAULT = "127.0.0.1:7200"
REGION_DEFAULT = "us-east-1"
WORKERS_MAX = 64
LOG_FORMATS = ("text", "json")
ENCRYPTIONS = ("none", "AES256")
COMPRESSIONS = ("none", "zstd")

_KINDS: dict[str, type] = {
    "data": str,
    "listen": str,
    "domain": list,
    "workers": int,
    "region": str,
    "tls_cert": str,
    "tls_key": str,
    "encryption": str,
    "compression": str,
    "atlas_interval": float,
    "atlas_grace": float,
    "atlas_rate": float,
    "upload_days": float,
    "log_format": str,
    "drain_grace": float,
    "ceph_conf": str,
    "ceph_client": str,
    "ceph_pool": str,
}
_KIND_NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list of texts"}
_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_REGION = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name or IP address, IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What `objectstore serve` was asked to do.

    `encrypted` and `compressed` are what becomes of objects in buckets that say nothing about it.
    """

    data: Path
    listen: Address
    domains: tuple[str, ...] = ()
    workers: int = 1
    region: str = REGION_DEFAULT
    tls: tuple[Path, Path] | None = None
    encrypted: bool = False
    compressed: bool = False
    log_format: str = "text"
    drain_grace_s: float = 0.0
    atlas: AtlasSettings = field(default_factory=AtlasSettings)
    ceph: CephSettings | None = None


def serve_settings(
    *,
    data: str | None = None,
    listen: str = LISTEN_DEFAULT,
    domain: tuple[str, ...] | list[str] = (),
    workers: int | None = None,
    region: str = REGION_DEFAULT,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    encryption: str = "none",
    compression: str = "none",
    log_format: str = "text",
    drain_grace: float = 0.0,
    atlas_interval: float = INTERVAL_S_DEFAULT,
    atlas_grace: float = GRACE_S_DEFAULT,
    atlas_rate: float = RATE_MIB_DEFAULT,
    upload_days: float = UPLOAD_DAYS_DEFAULT,
    ceph_conf: str | None = None,
    ceph_client: str = CLIENT_DEFAULT,
    ceph_pool: str | None = None,
) -> ServeSettings:
    """Check raw values, named as on the command line, and freeze them.

    Raises: SettingsError naming the setting, the value and what would be right.
    """
    if not data:
        raise SettingsError("--data", "not given", "a folder; it is made when missing")
    _check(encryption in ENCRYPTIONS, "--encryption", encryption, " or ".join(ENCRYPTIONS))
    _check(compression in COMPRESSIONS, "--compression", compression, " or ".join(COMPRESSIONS))
    _check(log_format in LOG_FORMATS, "--log-format", log_format, " or ".join(LOG_FORMATS))
    _check(bool(_REGION.fullmatch(region)), "--region", region, "letters, digits, hyphens")
    _check(0 <= drain_grace <= 3600, "--drain-grace", str(drain_grace), "0 to 3600 seconds")
    count = default_workers() if workers is None else workers
    _check(1 <= count <= WORKERS_MAX, "--workers", str(count), f"1 to {WORKERS_MAX}")
    return ServeSettings(
        data=Path(data).absolute(),
        listen=address(listen, "--listen"),
        domains=tuple(_domain(value) for value in domain),
        workers=count,
        region=region,
        tls=_tls(tls_cert, tls_key),
        encrypted=encryption != "none",
        compressed=compression != "none",
        log_format=log_format,
        drain_grace_s=drain_grace,
        atlas=atlas_settings(
            interval=atlas_interval, grace=atlas_grace, rate=atlas_rate, upload_days=upload_days
        ),
        ceph=ceph_settings(ceph_conf, ceph_client, ceph_pool),
    )


def read_file(path: Path) -> dict[str, object]:
    """The values of a TOML settings file, by name as in `serve_settings`.

    Raises: SettingsError for an unreadable file, an unknown key or a value of the wrong kind.
    """
    import tomllib  # where there is no file, no process should carry it

    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError("--config", str(path), str(error)) from error
    for key, value in values.items():
        kind = _KINDS.get(key)
        if kind is None:
            raise SettingsError(
                f"{path}", f"unknown setting {key!r}", f"known are: {', '.join(_KINDS)}"
            )
        accepted = (int, float) if kind is float else (kind,)
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise SettingsError(f"{path}", f"{key} = {value!r}", f"must be {_KIND_NAMES[kind]}")
    return values


def first_administrator_keys(environment: Mapping[str, str]) -> tuple[str, str]:
    """Access and secret key given for the first administrator, both empty when none are.

    Raises: SettingsError when only one of them is there.
    """
    names = ("OBJECTSTORE_ROOT_ACCESS_KEY", "OBJECTSTORE_ROOT_SECRET_KEY")
    access, secret = (environment.get(name, "") for name in names)
    if bool(access) != bool(secret):
        missing = names[1] if access else names[0]
        raise SettingsError(missing, "not set", f"set both of {' and '.join(names)}, or neither")
    return access, secret


def address(text: str, setting: str) -> Address:
    """Parse `HOST:PORT`, `[IPV6]:PORT`. Raises: SettingsError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(setting, text, "ADDRESS:PORT, for example 0.0.0.0:7200 or [::]:7200")
    return Address(host, int(port))


def default_workers() -> int:
    """One front end for each processor: the writer needs a third of one, and reads scale."""
    return max(1, min(len(os.sched_getaffinity(0)), 8))


def _domain(value: str) -> str:
    lowered = value.lower().rstrip(".")
    _check(
        bool(_DOMAIN.fullmatch(lowered)), "--domain", value, "a DNS name, such as s3.example.com"
    )
    return lowered


def _tls(certificate: str | None, key: str | None) -> tuple[Path, Path] | None:
    """Both files, or None when neither is given."""
    if not certificate and not key:
        return None
    if not certificate or not key:
        missing, other = ("--tls-key", "--tls-cert") if certificate else ("--tls-cert", "--tls-key")
        raise SettingsError(missing, "not given", f"needed together with {other}")
    return _file("--tls-cert", certificate), _file("--tls-key", key)


def _file(setting: str, value: str) -> Path:
    path = Path(value).absolute()
    _check(os.access(path, os.R_OK), setting, value, "a file that can be read")
    return path


def _check(holds: bool, setting: str, value: str, right: str) -> None:
    if not holds:
        raise SettingsError(setting, value, right)
