"""Secrets at rest: sealed under the store's master key, opened once, cached with a bound.

A sealed secret is `version (1 byte, 0x01) ‖ nonce (12) ‖ AES-256-GCM(secret) with its tag (16)`;
the access key is the associated data, so that a secret moved to another key does not open. The keys
of the key store are sealed alike, their associated data is `key:NAME`, which is no access key.

The caches are keyed by the sealed bytes themselves. Who asks has just read those bytes from the
directory, so a removed or replaced key can never be answered from here: the cache needs no
invalidation, only its bound.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..protocol.sigv4 import SigningKey, signing_key
from .errors import SealError

MASTER_KEY_BYTES = 32
CACHED_SECRETS_MAX = 4096
CACHED_SIGNING_KEYS_MAX = 8192

_VERSION = b"\x01"
_NONCE_BYTES = 12
_STORE_KEY = b"key:"


class Keyring:
    """Seals and opens secrets, and keeps derived signing keys; one per process."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != MASTER_KEY_BYTES:
            raise SealError("master key", f"{len(master_key)} bytes", "it must have 32 bytes")
        self._cipher = AESGCM(master_key)
        self._secrets: dict[bytes, str] = {}
        self._signing_keys: dict[tuple[bytes, str, str], SigningKey] = {}

    def seal(self, access_key: str, secret: str) -> bytes:
        """Return the sealed form to keep in the directory; different on every call."""
        return self._seal(secret.encode(), access_key.encode())

    def open(self, access_key: str, sealed: bytes) -> str:
        """Return the secret. Raises: SealError."""
        secret = self._secrets.get(sealed)
        if secret is not None:
            return secret
        secret = self._open(access_key, sealed, access_key.encode()).decode()
        if len(self._secrets) >= CACHED_SECRETS_MAX:
            self._secrets.clear()
        self._secrets[sealed] = secret
        return secret

    def seal_store_key(self, name: str, material: bytes) -> bytes:
        """Return the sealed form of a version of a key of the key store."""
        return self._seal(material, _STORE_KEY + name.encode())

    def open_store_key(self, name: str, sealed: bytes) -> bytes:
        """Return the version's bytes. Raises: SealError."""
        return self._open(name, sealed, _STORE_KEY + name.encode())

    def _seal(self, secret: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, bound)

    def _open(self, subject: str, sealed: bytes, bound: bytes) -> bytes:
        if sealed[:1] != _VERSION:
            raise SealError("open secret", subject, "unknown version of the sealed form")
        start = len(_VERSION) + _NONCE_BYTES
        try:
            return self._cipher.decrypt(sealed[len(_VERSION) : start], sealed[start:], bound)
        except (InvalidTag, ValueError) as error:
            hint = "the master key is not the one this store was made with"
            raise SealError("open secret", subject, hint) from error

    def signing_key(self, access_key: str, sealed: bytes, date: str, region: str) -> SigningKey:
        """Return the derived key for one day (`YYYYMMDD`) and region. Raises: SealError."""
        entry = (sealed, date, region)
        key = self._signing_keys.get(entry)
        if key is None:
            key = signing_key(self.open(access_key, sealed), date, region)
            if len(self._signing_keys) >= CACHED_SIGNING_KEYS_MAX:
                self._signing_keys.clear()
            self._signing_keys[entry] = key
        return key
