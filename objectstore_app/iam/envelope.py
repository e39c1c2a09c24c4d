"""Envelopes: the random data key of a body, wrapped by a key of the key store or of the client.

A wrapped data key is `salt (16) ‖ AES-256-GCM(data key) with its tag (48)`. The key of that cipher
is HMAC-SHA-256 of `domain ‖ salt` under the wrapping key, so it is another one for each envelope:
the nonce can be constant and no number of envelopes wears a wrapping key out. `context` is the
associated data, it says whose body it is: an envelope moved to another object does not open.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import SealError

DATA_KEY_BYTES = 32
WRAPPED_BYTES = 64

_SALT_BYTES = 16
_NONCE = bytes(12)
_DOMAIN = b"objectstore data key 1"


def new_data_key() -> bytes:
    return os.urandom(DATA_KEY_BYTES)


def wrap(wrapping_key: bytes, data_key: bytes, context: bytes) -> bytes:
    """Return the data key's envelope; different on every call."""
    salt = os.urandom(_SALT_BYTES)
    return salt + _cipher(wrapping_key, salt).encrypt(_NONCE, data_key, context)


def unwrap(wrapping_key: bytes, wrapped: bytes, context: bytes) -> bytes:
    """Return the data key. Raises: SealError when key, envelope and context do not belong
    together.
    """
    cipher = _cipher(wrapping_key, wrapped[:_SALT_BYTES])
    try:
        return cipher.decrypt(_NONCE, wrapped[_SALT_BYTES:], context)
    except (InvalidTag, ValueError) as error:
        raise SealError(
            "open data key", "", "it was wrapped by another key, for another object, or is damaged"
        ) from error


def _cipher(wrapping_key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(hmac.digest(wrapping_key, _DOMAIN + salt, "sha256"))
