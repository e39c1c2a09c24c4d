"""The certificate: the operator's own, or a self-signed one made at the first start.

The self-signed certificate (ECDSA P-256) names the listen address - all local addresses when that
is a wildcard -, `localhost`, and each domain with its sub-domains, so that both path-style and
virtual-hosted requests fit it. It is made anew when it runs out or no longer names what it should.
A replaced certificate file takes effect without a restart: `ServerTls.refresh`.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .errors import StartError

LIFETIME_DAYS = 825
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
            _write_pair(certificate, key, hosts, addresses, now)
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
    try:
        parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    if now + datetime.timedelta(days=RENEW_DAYS_BEFORE) > parsed.not_valid_after_utc:
        return False
    has_hosts = set(names.get_values_for_type(x509.DNSName))
    has_addresses = {str(value) for value in names.get_values_for_type(x509.IPAddress)}
    return set(hosts) <= has_hosts and set(addresses) <= has_addresses


def _write_pair(
    certificate: Path, key: Path, hosts: list[str], addresses: list[str], now: datetime.datetime
) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    # The common name may have 64 characters at most; clients look at the alternative names only.
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, hosts[-1].removeprefix("*.")[:64])]
    )
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=LIFETIME_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Marked as its own authority so that a client can be told to trust exactly this file.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
        .add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .sign(private, hashes.SHA256())
    )
    private_pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write_file(key, private_pem, 0o600)
    _write_file(certificate, built.public_bytes(serialization.Encoding.PEM), 0o644)


def _write_file(path: Path, data: bytes, mode: int) -> None:
    """Replace a file in one step, durably."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise StartError("read TLS certificate", str(path), str(error)) from error
    return status.st_mtime_ns, status.st_ino
