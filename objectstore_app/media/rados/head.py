"""The head of a shard's log on RADOS: who may write it, and which segments it has.

One small object, changed only as a whole and only by who knows what it holds: each change compares
all of what was read and replaces it. `change` grows with each, so no content comes twice. A head
has one size whatever it says: a pool that is full takes what needs no more room than before, so a
log can be taken over there. Format: docs/formats/rados.md.
"""

from __future__ import annotations

import struct

import msgspec

from ...core.ids import ShardId
from ..errors import CorruptDataError
from ..segments import checksum, shard_folder

HEAD_BYTES_MAX = 64 * 1024
HEAD_BYTES_MIN = 512
OWNER_CHARACTERS_MAX = 100
_MAGIC = b"OSTOHED\n"
_VERSION = 1
_FRAME = struct.Struct("<8sHHII")


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """`epoch` is that of who took the log over last; 0 segments until the first is made. `owner`
    says who that is, for people; `released` that it will write no more and holds no lease.
    """

    shard: int
    change: int = 1
    epoch: int = 1
    owner: str = ""
    released: bool = False
    last: int = 0


def head_name(shard: ShardId) -> str:
    return f"{shard_folder(shard)}/head"


def encode_head(head: Head) -> bytes:
    # Blanks behind it are JSON, too.
    payload = msgspec.json.encode(head).ljust(HEAD_BYTES_MIN - _FRAME.size)
    plain = _FRAME.pack(_MAGIC, _VERSION, 0, len(payload), 0) + payload
    return _FRAME.pack(_MAGIC, _VERSION, 0, len(payload), checksum(plain)) + payload


def decode_head(content: bytes, subject: str) -> Head:
    """Raises CorruptDataError."""
    if len(content) < _FRAME.size or content[:8] != _MAGIC:
        raise CorruptDataError("read head", subject, "it is damaged")
    _, version, reserved, length, crc = _FRAME.unpack_from(content)
    payload = content[_FRAME.size :]
    plain = _FRAME.pack(_MAGIC, version, reserved, length, 0) + payload
    if version > _VERSION:
        raise CorruptDataError(
            "read head", subject, f"format {version} was written by a newer release"
        )
    if len(payload) != length or checksum(plain) != crc:
        raise CorruptDataError("read head", subject, "it does not match its checksum")
    try:
        return msgspec.json.decode(payload, type=Head)
    except msgspec.MsgspecError as error:
        raise CorruptDataError("read head", subject, str(error)) from error
