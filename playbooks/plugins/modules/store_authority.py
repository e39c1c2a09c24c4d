"""Ansible module: a certificate signed by one of the store's own authorities, kept by the operator.

Runs on the operator's machine. The authority's key never leaves its folder; a node gets only its
own certificate and key. A certificate is made anew when its names, addresses or authority changed
or when it is about to expire, and left alone otherwise.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    CRYPTOGRAPHY_MISSING = False
except ImportError:
    CRYPTOGRAPHY_MISSING = True

DOCUMENTATION = """
module: store_authority
short_description: A certificate signed by one of the store's own authorities
description:
  - Keeps an authority and the certificates it signed in a folder of the operator's machine.
options:
  directory:
    description: The folder of the authority; made when it is missing.
    type: path
    required: true
  authority:
    description: The common name of the authority.
    type: str
    required: true
  name:
    description: The common name of the certificate, and the name of its files.
    type: str
    required: true
  dns_names:
    description: DNS names that the certificate is for.
    type: list
    elements: str
    default: []
  addresses:
    description: IP addresses that the certificate is for.
    type: list
    elements: str
    default: []
  client:
    description: Whether the certificate may also prove who a client is.
    type: bool
    default: false
  valid_days:
    description: How long a new certificate is valid.
    type: int
    default: 730
  renew_days:
    description: How many days before its end a certificate is made anew.
    type: int
    default: 60
"""

AUTHORITY_VALID_DAYS = 3650
CLOCK_SLACK = datetime.timedelta(hours=1)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "authority": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "dns_names": {"type": "list", "elements": "str", "default": []},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "client": {"type": "bool", "default": False},
            "valid_days": {"type": "int", "default": 730},
            "renew_days": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if CRYPTOGRAPHY_MISSING:
        module.fail_json(msg=missing_required_lib("cryptography"))
    wanted = Wanted(module.params)
    try:
        module.exit_json(**ensure(wanted, check_mode=module.check_mode))
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the authority in {wanted.directory} is not usable: {error}")


class Wanted:
    """What the task asks for, with typed members."""

    def __init__(self, params: dict) -> None:
        self.directory = Path(params["directory"])
        self.authority: str = params["authority"]
        self.name: str = params["name"]
        self.client: bool = params["client"]
        self.valid = datetime.timedelta(days=params["valid_days"])
        self.renew = datetime.timedelta(days=params["renew_days"])
        self.names: list = [
            *(x509.DNSName(name) for name in params["dns_names"]),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in params["addresses"]),
        ]


def ensure(wanted: Wanted, *, check_mode: bool) -> dict:
    """The certificate, made when it is missing or does not fit; in check mode only in memory."""
    now = datetime.datetime.now(datetime.UTC)
    with locked(wanted.directory, check_mode=check_mode):
        ca_cert, ca_key, fresh = authority(wanted, now, check_mode=check_mode)
        cert_file = wanted.directory / f"{wanted.name}.pem"
        key_file = wanted.directory / f"{wanted.name}.key"
        why = "there is none"
        if not fresh and cert_file.is_file() and key_file.is_file():
            cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
            why = unfit(cert, wanted, ca_cert, now)
        if why:
            cert, key = sign(wanted, ca_cert, ca_key, now)
            cert_text, key_text = pem(cert), key_pem(key)
            if not check_mode:
                write(key_file, key_text, mode=0o600)
                write(cert_file, cert_text, mode=0o644)
        else:
            cert_text, key_text = cert_file.read_text(), key_file.read_text()
    return {
        "changed": bool(why),
        "why": why,
        "authority": pem(ca_cert),
        "certificate": cert_text,
        "key": key_text,
        "not_after": cert.not_valid_after_utc.isoformat(),
    }


@contextmanager
def locked(directory: Path, *, check_mode: bool) -> Iterator[None]:
    """Tasks of several hosts run at once; the first one makes the authority."""
    if check_mode:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def authority(wanted: Wanted, now: datetime.datetime, *, check_mode: bool) -> tuple:
    cert_file, key_file = wanted.directory / "ca.pem", wanted.directory / "ca.key"
    if cert_file.is_file() and key_file.is_file():
        cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        return cert, key, False
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.authority)])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + datetime.timedelta(days=AUTHORITY_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    if not check_mode:
        write(key_file, key_pem(key), mode=0o600)
        write(cert_file, pem(cert), mode=0o644)
    return cert, key, True


def unfit(cert, wanted: Wanted, ca_cert, now: datetime.datetime) -> str:
    """Why this certificate does not do, or nothing."""
    if cert.issuer != ca_cert.subject or not signed_by(cert, ca_cert):
        return "the authority changed"
    if cert.not_valid_after_utc - now < wanted.renew:
        return f"it ends {cert.not_valid_after_utc.date()}"
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if sorted(map(str, names)) != sorted(map(str, wanted.names)):
        return "its names changed"
    usages = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if (ExtendedKeyUsageOID.CLIENT_AUTH in usages) != wanted.client:
        return "its usage changed"
    return ""


def signed_by(cert, ca_cert) -> bool:
    try:
        cert.verify_directly_issued_by(ca_cert)
    except InvalidSignature:
        return False
    return True


def sign(wanted: Wanted, ca_cert, ca_key, now: datetime.datetime) -> tuple:
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    if wanted.client:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    ski = ca_cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    cert = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.name)]))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(min(now + wanted.valid, ca_cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(wanted.names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    return cert, key


def key_usage(*, authority: bool):
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def pem(cert) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def write(path: Path, text: str, *, mode: int) -> None:
    """Put the whole file in place at once, never readable by others on the way."""
    scratch = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    scratch.rename(path)


if __name__ == "__main__":
    main()
