"""Secrets at rest: Pulumi's passphrase provider.

key = PBKDF2-HMAC-SHA256(passphrase, 8-byte salt, 1,000,000 rounds, 32 bytes);
a ciphertext is `v1:BASE64(12-byte nonce):BASE64(AES-256-GCM of the text)`;
the salt travels as `v1:BASE64(salt):` + the ciphertext of "pulumi", by which a wrong passphrase is
recognised. A secret in a state file is the ciphertext of its compact JSON.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import StateError
from .values import SECRET, SIGNATURE, Json, Properties, is_secret, transform

ROUNDS = 1_000_000
SALT_BYTES = 8
NONCE_BYTES = 12
_CANARY = "pulumi"


class Crypter:
    """Seals and opens values under one passphrase and salt.

    Deriving the key takes most of a second, so hold on to the object.
    """

    def __init__(self, passphrase: str, salt: str = "") -> None:
        """Use `salt`, the text described above, or make a new one.

        Raises:
            StateError: the passphrase is not the one `salt` was made with.
        """
        raw = _salt_bytes(salt) if salt else os.urandom(SALT_BYTES)
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), raw, ROUNDS, 32)
        self._cipher = AESGCM(key)
        if salt and self.decrypt(salt.split(":", 2)[2]) != _CANARY:
            raise _wrong_passphrase()
        self.salt = salt or f"v1:{_b64(raw)}:{self.encrypt(_CANARY)}"

    def encrypt(self, text: str) -> str:
        """The ciphertext of `text`."""
        nonce = os.urandom(NONCE_BYTES)
        return f"v1:{_b64(nonce)}:{_b64(self._cipher.encrypt(nonce, text.encode(), None))}"

    def decrypt(self, ciphertext: str) -> str:
        """The text of `ciphertext`.

        Raises:
            StateError: the passphrase is wrong, or this is no ciphertext.
        """
        try:
            version, nonce, sealed = ciphertext.split(":")
            if version != "v1":
                raise StateError(f"ciphertext of version {version!r}, only v1 is known")
            text = self._cipher.decrypt(base64.b64decode(nonce), base64.b64decode(sealed), None)
        except (ValueError, binascii.Error) as error:
            raise StateError("a ciphertext in the state or configuration is damaged") from error
        except InvalidTag as error:
            raise _wrong_passphrase() from error
        return text.decode()

    def seal(self, properties: Mapping[str, Json]) -> Properties:
        """`properties` with every secret encrypted."""

        def change(value: Json) -> Json:
            if isinstance(value, dict) and is_secret(value) and "value" in value:
                text = json.dumps(value["value"], separators=(",", ":"))
                return {SIGNATURE: SECRET, "ciphertext": self.encrypt(text)}
            return value

        return {key: transform(value, change) for key, value in properties.items()}

    def open(self, properties: Mapping[str, Json]) -> Properties:
        """`properties` with every secret decrypted, still marked as secret."""

        def change(value: Json) -> Json:
            if isinstance(value, dict) and is_secret(value):
                if isinstance(sealed := value.get("ciphertext"), str):
                    return {SIGNATURE: SECRET, "value": json.loads(self.decrypt(sealed))}
                if isinstance(text := value.get("plaintext"), str):  # export --show-secrets
                    return {SIGNATURE: SECRET, "value": json.loads(text)}
            return value

        return {key: transform(value, change) for key, value in properties.items()}


def reveal(properties: Mapping[str, Json]) -> Properties:
    """`properties` with every secret in the form of an export that shows them."""

    def change(value: Json) -> Json:
        if isinstance(value, dict) and is_secret(value) and "value" in value:
            text = json.dumps(value["value"], separators=(",", ":"))
            return {SIGNATURE: SECRET, "plaintext": text}
        return value

    return {key: transform(value, change) for key, value in properties.items()}


def find_passphrase(state_dir: Path) -> tuple[str, Path | None]:
    """The passphrase, and the file it was just written to if it had to be made.

    PULUMI_CONFIG_PASSPHRASE, else the file PULUMI_CONFIG_PASSPHRASE_FILE names, else a generated
    one kept in the state folder.

    Raises:
        StateError: the named file cannot be read.
    """
    if (given := os.environ.get("PULUMI_CONFIG_PASSPHRASE")) is not None:
        return given, None
    named = os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    file = Path(named) if named else state_dir / "passphrase"
    try:
        return file.read_text().strip(), None
    except FileNotFoundError as error:
        if named:
            raise StateError(f"PULUMI_CONFIG_PASSPHRASE_FILE: {file} does not exist") from error
    except OSError as error:
        raise StateError(f"cannot read the passphrase file {file}: {error.strerror}") from error
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = secrets.token_urlsafe(24)
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(made + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(partial, file)  # whole or not at all, and never over another's
    except FileExistsError:
        return file.read_text().strip(), None
    finally:
        partial.unlink()
    return made, file


def _salt_bytes(salt: str) -> bytes:
    parts = salt.split(":", 2)
    if len(parts) != 3 or parts[0] != "v1":
        raise StateError(f"not an encryption salt of version 1: {salt[:20]!r}")
    return base64.b64decode(parts[1])


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _wrong_passphrase() -> StateError:
    return StateError(
        "the passphrase does not open this stack's secrets",
        hint="set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE to the one it was"
        " made with",
    )
