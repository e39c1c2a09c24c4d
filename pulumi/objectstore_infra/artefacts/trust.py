"""Who may make bundles: this machine's own key, and the public keys that its operator trusts.

    STATE/bundle-key             the private key that bundles built here are signed with
    STATE/trusted-bundle-keys    public keys of other builders, one a line

Both lie in the operator's state folder. A public key is written as the base64 text of its 32 bytes.
"""

from __future__ import annotations

import base64
import os
from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from objectstore_infra.artefacts.errors import BundleError
from objectstore_infra.state_folder import state_folder, write_private

KEY = "bundle-key"
TRUSTED = "trusted-bundle-keys"
PUBLIC_KEY_BYTES = 32


def own_key() -> Ed25519PrivateKey:
    """Return this machine's signing key, made when there is none; only its owner can read it."""
    path = state_folder() / KEY
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        scratch = path.with_name(f"{KEY}.{os.getpid()}")
        write_private(scratch, base64.b64encode(raw).decode() + "\n")
        with suppress(FileExistsError):  # another build made it meanwhile: that one counts
            os.link(scratch, path)
        scratch.unlink()
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_bytes()))
    except ValueError as error:
        raise BundleError(
            f"{path} holds no signing key: {error}",
            hint="put it back from a copy, or remove it to have a new one made",
        ) from error


def public_text(key: Ed25519PrivateKey) -> str:
    """Return the public half as the text that others trust."""
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def own() -> str:
    """Return this machine's own public key; empty when nothing was built here yet."""
    return public_text(own_key()) if (state_folder() / KEY).exists() else ""


def others() -> list[str]:
    """Return the trusted public keys of other builders."""
    try:
        return (state_folder() / TRUSTED).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


def trusted() -> set[str]:
    """Return every public key whose bundles are installed from here."""
    return {*others(), own()} - {""}


def add(key: str) -> None:
    """Trust a public key from now on. Raises: BundleError: it is none."""
    if not _is_public_key(key):
        raise BundleError(
            f"{key!r} is no public key of a builder",
            hint="`objectstore bundle trust` on the builder's machine shows its key",
        )
    _write([*others(), *({key} - trusted())])


def remove(key: str) -> None:
    """Trust a public key no more. Raises: BundleError: it was not among the others."""
    if key not in others():
        raise BundleError(
            f"{key!r} is not among the trusted keys of other builders",
            hint="`objectstore bundle trust` lists them",
        )
    _write([other for other in others() if other != key])


def _write(keys: list[str]) -> None:
    write_private(state_folder() / TRUSTED, "".join(f"{key}\n" for key in keys))


def _is_public_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == PUBLIC_KEY_BYTES
    except ValueError:
        return False
