"""SshKey, Credentials and MasterKey: secrets made once and kept in the stack's state alone."""

from __future__ import annotations

import base64
import secrets
import string
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from objectstore_infra.provider.handler import Context, Handler, Input, Output, text
from objectstore_infra.provider.values import Record

ACCESS_KEY_LENGTH = 20
SECRET_KEY_LENGTH = 40
MASTER_KEY_BYTES = 32


class SshKey(Handler):
    """The operator's key to a store's machines."""

    type_name = "SshKey"
    inputs: ClassVar = {"store": Input(str)}
    outputs: ClassVar = {"publicKey": Output(), "privateKey": Output(secret=True)}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Generate an ed25519 key."""
        store = text(inputs, "store")
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return store, {"publicKey": f"{public} objectstore-{store}", "privateKey": private}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """It lives in the state alone; there is nothing to remove."""


class Credentials(Handler):
    """Access and secret key of a store's first administrator."""

    type_name = "Credentials"
    inputs: ClassVar = {"store": Input(str)}
    outputs: ClassVar = {"accessKey": Output(secret=True), "secretKey": Output(secret=True)}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Generate the two keys."""
        access = "".join(
            secrets.choice(string.ascii_uppercase + string.digits) for _ in range(ACCESS_KEY_LENGTH)
        )
        secret = "".join(
            secrets.choice(string.ascii_letters + string.digits) for _ in range(SECRET_KEY_LENGTH)
        )
        return text(inputs, "store"), {"accessKey": access, "secretKey": secret}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """It lives in the state alone; there is nothing to remove."""


class MasterKey(Handler):
    """The key that seals a store's secrets at rest. Without it nothing encrypted can be read."""

    type_name = "MasterKey"
    inputs: ClassVar = {"store": Input(str)}
    outputs: ClassVar = {"key": Output(secret=True)}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Generate it, in base64."""
        key = base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()
        return text(inputs, "store"), {"key": key}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """It lives in the state alone; there is nothing to remove."""
