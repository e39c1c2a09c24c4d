"""Sealing of backups with a passphrase: bytes in, bytes out. docs/formats/backup.md.

offset 0   8 bytes   magic
       8   1 byte    version of the format
       9   1 byte    scrypt's cost: log2 of N; r is 8, p is 1
      10  16 bytes   salt
      26  12 bytes   nonce
      38  …          AES-256-GCM of the contents; all before it is authenticated with them
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from objectstore_infra.errors import BackupError

MAGIC = b"OBJSTBAK"
VERSION = 1
HEADER = struct.Struct("<8sBB16s12s")
COST = 17
# A file that asks for more would have us use more than a gibibyte of memory.
COST_MAX = 20
BLOCK_SIZE = 8
KEY_BYTES = 32
PASSPHRASE_LENGTH_MIN = 12
# AES-GCM takes all of it at once.
SEALED_BYTES_MAX = 1 << 30
VARIABLE = "OBJECTSTORE_BACKUP_PASSPHRASE"


def given_passphrase() -> str:
    """Return the passphrase of backups that the environment gives. Raises BackupError."""
    given, named = os.environ.get(VARIABLE), os.environ.get(f"{VARIABLE}_FILE")
    try:
        secret = given or (Path(named).read_text(encoding="utf-8").strip() if named else "")
    except OSError as error:
        raise BackupError(f"{VARIABLE}_FILE: cannot read {named}: {error.strerror}") from error
    if len(secret) < PASSPHRASE_LENGTH_MIN:
        raise BackupError(
            f"backups are sealed with a passphrase of at least {PASSPHRASE_LENGTH_MIN} characters",
            hint=f"give it in {VARIABLE}, or a file with it in {VARIABLE}_FILE; keep it apart from "
            "the backups, without it they cannot be opened",
        )
    return secret


def seal(contents: bytes, secret: str) -> bytes:
    """Return the contents sealed. Raises BackupError for more than fits."""
    if len(contents) > SEALED_BYTES_MAX:
        raise BackupError(f"{len(contents)} bytes are more than a backup may hold")
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    header = HEADER.pack(MAGIC, VERSION, COST, salt, nonce)
    return header + AESGCM(_key(secret, salt, COST)).encrypt(nonce, contents, header)


def unseal(sealed: bytes, secret: str) -> bytes:
    """Return the contents. Raises BackupError."""
    if len(sealed) < HEADER.size or not sealed.startswith(MAGIC):
        raise BackupError("this is no backup")
    header = sealed[: HEADER.size]
    _, version, cost, salt, nonce = HEADER.unpack(header)
    if version != VERSION or cost > COST_MAX:
        raise BackupError(
            f"a backup of format {version}, cost {cost}, which this release cannot open"
        )
    try:
        return AESGCM(_key(secret, salt, cost)).decrypt(nonce, sealed[HEADER.size :], header)
    except InvalidTag as error:
        raise BackupError(
            "the passphrase is not the one it was made with, or it is damaged"
        ) from error


def _key(secret: str, salt: bytes, cost: int) -> bytes:
    memory = 128 * BLOCK_SIZE * (1 << cost)
    return hashlib.scrypt(
        secret.encode(),
        salt=salt,
        n=1 << cost,
        r=BLOCK_SIZE,
        p=1,
        maxmem=2 * memory,
        dklen=KEY_BYTES,
    )
