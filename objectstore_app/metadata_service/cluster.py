"""The mutual TLS between the pods of a store.

Who holds a certificate of the store's own authority is one of its pods; names in certificates are
not compared, for pods are known by address.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from ..core.errors import ObjectStoreError


class ClusterTlsError(ObjectStoreError):
    """The files for the mutual TLS between pods cannot be used."""


def cluster_context(ca: Path, certificate: Path, key: Path, *, server: bool) -> ssl.SSLContext:
    """Mutual TLS under the store's own authority. Raises ClusterTlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ClusterTlsError("cluster TLS", f"{ca}, {certificate}, {key}", str(error)) from error
    return context
