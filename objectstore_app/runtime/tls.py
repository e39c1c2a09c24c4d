"""The certificate: the operator's own, or a self-signed one made at the first start.

The self-signed certificate (ECDSA P-256) names the listen address - all local addresses when that
is a wildcard -, `localhost`, and each domain with its sub-domains, so that both path-style and
virtual-hosted requests fit it. It is made anew when it runs out or no longer names what it should.
A replaced certificate file takes effect without a restart: `ServerTls.refresh`.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from .errors import StartError

RENEW_DAYS_BEFORE = 30


class ServerTls:
    """A server-side TLS context that follows its files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._stamp = _stamp(certificate)
        self._load()

    def refresh(self) -> bool:
        """Load the files again if they were replaced; True when they were. New connections use
        them.

        Raises: StartError when the new files do not fit; the old ones stay in use.
        """
        stamp = _stamp(self.certificate)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._load()
        return True

    def _load(self) -> None:
        try:
            self.context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                "load TLS certificate", f"{self.certificate}, {self.key}", str(error)
            ) from error


def ensure_self_signed(
    folder: Path, *, address: str, domains: Sequence[str], now: datetime.datetime
) -> tuple[Path, Path]:
    """Return certificate and key in `folder`, made if missing, running out or naming too little.

    Raises: StartError.
    """
    certificate, key = folder / "cert.pem", folder / "key.pem"
    hosts, addresses = subject_names(address, domains)
    if not _still_good(certificate, key, hosts, addresses, now):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Loaded here only: it takes a good part of a start, which mostly has its certificate.
            from .certificates import write_pair

            write_pair(certificate, key, hosts, addresses, now)
        except OSError as error:
            raise StartError("write TLS certificate", str(folder), str(error)) from error
    return certificate, key


def subject_names(address: str, domains: Sequence[str]) -> tuple[list[str], list[str]]:
    """The DNS names and the addresses that a certificate for this listen address must carry."""
    hosts = ["localhost"]
    for domain in domains:
        hosts += [domain, f"*.{domain}"]
    addresses = {"127.0.0.1", "::1"}
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        hosts.append(address)
    else:
        addresses |= local_addresses() if parsed.is_unspecified else {str(parsed)}
    return list(dict.fromkeys(hosts)), sorted(addresses)


def local_addresses() -> set[str]:
    """Addresses of this machine that others may use, found without sending a packet."""
    found = {"127.0.0.1"}
    try:
        infos = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        found |= {str(info[4][0]).partition("%")[0] for info in infos}
    except OSError:
        pass  # a host name that does not resolve is common and harmless here
    # Connecting a UDP socket only picks a route and with it the address of the outward interface.
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                found.add(probe.getsockname()[0])
        except OSError:
            continue
    return found


def _still_good(
    certificate: Path, key: Path, hosts: list[str], addresses: list[str], now: datetime.datetime
) -> bool:
    if not (certificate.exists() and key.exists()):
        return False
    reader = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        reader.load_verify_locations(certificate)
        [parsed] = reader.get_ca_certs()
    except (ssl.SSLError, ValueError):
        return False
    ends = ssl.cert_time_to_seconds(str(parsed["notAfter"]))
    if now.timestamp() + RENEW_DAYS_BEFORE * 86_400 > ends:
        return False
    pairs = cast("tuple[tuple[str, str], ...]", parsed["subjectAltName"])
    named = {(kind, value.strip()) for kind, value in pairs}
    has_hosts = {value for kind, value in named if kind == "DNS"}
    has_addresses = {
        str(ipaddress.ip_address(value)) for kind, value in named if kind == "IP Address"
    }
    return set(hosts) <= has_hosts and set(addresses) <= has_addresses


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise StartError("read TLS certificate", str(path), str(error)) from error
    return status.st_mtime_ns, status.st_ino
