"""The authority that the nodes of a store trust, a node's certificate, and a stranger's."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from objectstore_app.metadata_service.cluster import cluster_context


def make_authorities(folder: Path) -> Path:
    """Put ca.pem, a node's node.pem and node.key into a folder, and those of a stranger."""
    for authority, node in (("ca", "node"), ("other-ca", "stranger")):
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _certificate(authority, ca_key, authority, ca_key, is_ca=True)
        (folder / f"{authority}.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(node, key, authority, ca_key, is_ca=False)
        (folder / f"{node}.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        (folder / f"{node}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return folder


def context(tls: Path, *, server: bool, node: str = "node") -> ssl.SSLContext:
    return cluster_context(tls / "ca.pem", tls / f"{node}.pem", tls / f"{node}.key", server=server)


def _certificate(name, key, issuer, issuer_key, *, is_ca):
    def named(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
