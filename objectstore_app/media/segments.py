"""Numbers, names, headers and checksums of segments: pure, shared by all media.

A segment number is unique in a store for ever, over logs and chunks, and fits SQLite's integer:

    log    bits 32–47 the shard's tag, bits 0–31 a counter from 1
    chunk  bit 62 set, bits 20–61 the milliseconds since 1970 when it was made, bits 0–19 random

Formats: docs/formats/log.md and docs/formats/chunk.md.
"""

from __future__ import annotations

import struct
from pathlib import Path

from awscrt.checksums import crc32c

from ..core.errors import invariant
from ..core.ids import ShardId
from ..core.limits import CHECKSUM_BLOCK_BYTES
from .errors import CorruptDataError

DIRECTORY_SHARD = ShardId(0xFFFF)
SHARDS_MAX = 999
CHUNK_BIT = 1 << 62
LOG_VERSION = 2
CHUNK_VERSION = 1

_MAGIC_LOG = b"OSTOLOG\n"
_MAGIC_CHUNK = b"OSTOCHK\n"
_HEADER = struct.Struct("<8sHHIQII")
_VERSION_AT, _SALT_AT = 8, 28
SEGMENT_HEADER_BYTES = _HEADER.size

invariant(SEGMENT_HEADER_BYTES == 32, "docs/formats say so")


def checksum(data: bytes | memoryview) -> int:
    """CRC32C of the bytes."""
    value: int = crc32c(data)
    return value


def running_checksum(data: bytes | memoryview, before: int) -> int:
    """CRC32C of the bytes behind those whose checksum is `before` (0: none)."""
    value: int = crc32c(data, before)
    return value


def log_segment(shard: ShardId, counter: int) -> int:
    """The number of a shard's `counter`-th log segment."""
    return shard << 32 | counter


def log_counter(segment: int) -> int:
    return segment & 0xFFFFFFFF


def chunk_segment(now_ms: int, random_bits: int) -> int:
    """A number for a chunk segment; the caller makes sure that no file of it exists."""
    return CHUNK_BIT | (now_ms & (1 << 42) - 1) << 20 | random_bits & (1 << 20) - 1


def chunk_segment_made_ms(segment: int) -> int:
    """When a chunk segment was made."""
    return (segment & ~CHUNK_BIT) >> 20


def is_chunk(segment: int) -> bool:
    return bool(segment & CHUNK_BIT)


def shard_folder(shard: ShardId) -> str:
    """The name of a shard's folder (and of its socket and lock) inside the data folder."""
    return "directory" if shard == DIRECTORY_SHARD else f"shard-{shard:03d}"


def segment_path(data_dir: Path, segment: int) -> Path:
    """Where a segment's file lies in a data folder."""
    if is_chunk(segment):
        return data_dir / "chunks" / segment_name(segment)
    folder = shard_folder(ShardId(segment >> 32))
    return data_dir / folder / segment_name(segment)


def segment_name(segment: int) -> str:
    """The name of a segment's file."""
    return f"{segment:016x}.seg" if is_chunk(segment) else log_name(segment)


def log_name(segment: int) -> str:
    return f"log-{log_counter(segment):08d}.seg"


def newest_version(segment: int) -> int:
    """The format in which segments of this one's kind are written."""
    return CHUNK_VERSION if is_chunk(segment) else LOG_VERSION


def encode_header(segment: int, salt: int = 0) -> bytes:
    """The first bytes of a segment's file; `salt` is a log's, 32 random bits, and for a chunk
    segment whose chunks begin at multiples of some number of bytes that number.
    """
    return _encode_header(segment, newest_version(segment), salt)


def _encode_header(segment: int, version: int, salt: int) -> bytes:
    magic = _MAGIC_CHUNK if is_chunk(segment) else _MAGIC_LOG
    shard = 0 if is_chunk(segment) else segment >> 32
    plain = _HEADER.pack(magic, version, 0, shard, segment, 0, salt)
    return _HEADER.pack(magic, version, 0, shard, segment, checksum(plain), salt)


def check_header(segment: int, header: bytes | memoryview) -> int:
    """The salt that the header holds, 0 where it has none. Raises CorruptDataError unless
    it is the header of this segment in a known format.
    """
    subject = f"segment {segment:#x}"
    magic = bytes(header[:8])
    if magic not in (_MAGIC_LOG, _MAGIC_CHUNK) or len(header) < SEGMENT_HEADER_BYTES:
        raise CorruptDataError("open segment", subject, "the header is damaged")
    version = int.from_bytes(header[_VERSION_AT : _VERSION_AT + 2], "little")
    salt = int.from_bytes(header[_SALT_AT : _SALT_AT + 4], "little")
    if version > newest_version(segment):
        raise CorruptDataError(
            "open segment", subject, f"format {version} was written by a newer release"
        )
    if bytes(header) != _encode_header(segment, version, salt):
        raise CorruptDataError("open segment", subject, "the header is that of another segment")
    return salt


# --- a chunk's table of block checksums ---


def block_count(length: int) -> int:
    return -(-length // CHECKSUM_BLOCK_BYTES)


def table_bytes(length: int) -> int:
    """Size of the table behind a chunk of `length` bytes."""
    return 4 * block_count(length)


class TableBuilder:
    """The table of a chunk whose data comes in pieces of any size."""

    __slots__ = ("_crc", "_filled", "_sums")

    def __init__(self) -> None:
        self._sums: list[int] = []
        self._crc = 0
        self._filled = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        start = 0
        while start < len(view):
            end = start + CHECKSUM_BLOCK_BYTES - self._filled
            piece = view[start:end]
            self._crc = crc32c(piece, self._crc)
            self._filled += len(piece)
            start += len(piece)
            if self._filled == CHECKSUM_BLOCK_BYTES:
                self._sums.append(self._crc)
                self._crc = self._filled = 0

    def encode(self) -> bytes:
        """The CRC32C of each block, little-endian."""
        sums = [*self._sums, self._crc] if self._filled else self._sums
        return struct.pack(f"<{len(sums)}I", *sums)


def encode_table(data: bytes | memoryview) -> bytes:
    """The table of a chunk that is whole."""
    table = TableBuilder()
    table.update(data)
    return table.encode()


def check_blocks(
    data: memoryview, table: memoryview | bytes, first: int, segment: int, offset: int
) -> None:
    """Verify whole blocks, the first of them number `first`, against the chunk's table.

    `offset` is where the first block lies. Raises CorruptDataError.
    """
    for index, start in enumerate(range(0, len(data), CHECKSUM_BLOCK_BYTES)):
        (wanted,) = struct.unpack_from("<I", table, 4 * (first + index))
        if checksum(data[start : start + CHECKSUM_BLOCK_BYTES]) != wanted:
            raise corrupt(segment, offset + start, "a block of a chunk")


def corrupt(segment: int, offset: int, what: str) -> CorruptDataError:
    return CorruptDataError(
        "read", f"segment {segment:#x} offset {offset}", f"{what} does not match its checksum"
    )
