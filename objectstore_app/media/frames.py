"""Frames: how a body is cut, compressed and encrypted so that a range costs only its frames.

One *coded extent* is `table ‖ frame ‖ frame …`. The plain bytes are cut into frames of a fixed
plain size, the last one shorter; the table has 4 bytes a frame, little-endian: the stored bytes of
the frame, and COMPRESSED if it was. A frame is compressed by Zstandard (with its checksum) where
that saves enough, then encrypted by AES-256-GCM where there is a data key. The nonce is the frame's
place in the body, which no two frames under one data key share; the associated data adds plain size
and flag, so that a frame decrypts at its own place only (docs/formats/coding.md).

Pure functions on bytes, for threads as well as for the loop: both libraries let go of the
interpreter while they work.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..core.limits import FRAME_BYTES
from .errors import CorruptDataError

if TYPE_CHECKING:
    import zstandard

COMPRESSED = 1 << 31
LENGTH_BYTES = 4
TAG_BYTES = 16
LEVEL = 1
# A frame that does not shrink by a twelfth is kept as it is: reading it is worth more.
_SAVED_SHARE = 12
# Where the first frames of an extent do not shrink, the others are not tried.
_PROBED_FRAMES = 2

_PLACE = struct.Struct(">QI")
_BOUND = struct.Struct(">QII?")

Data = bytes | bytearray | memoryview
T = TypeVar("T")


class Encoder:
    """Makes one coded extent of plain bytes that come in any pieces; a frame of them is held."""

    def __init__(
        self,
        place: int,
        *,
        compress: bool,
        data_key: bytes | None,
        frame_bytes: int = FRAME_BYTES,
    ) -> None:
        """`place` is the extent's index in its body."""
        self._place = place
        self._compress = compress
        self._cipher = None if data_key is None else AESGCM(data_key)
        self._frame_bytes = frame_bytes
        self._held = bytearray()
        self._entries: list[int] = []
        self._frames: list[bytes] = []
        self._shrunk = False

    def update(self, data: Data) -> None:
        view = memoryview(data)
        while view:
            room = self._frame_bytes - len(self._held)
            if len(view) >= self._frame_bytes == room:
                self._add(view[:room])
            else:
                self._held += view[:room]
                if len(self._held) == self._frame_bytes:
                    self._end_frame()
            view = view[room:]

    def finish(self) -> tuple[list[bytes], bool]:
        """What is to lie on the medium, in pieces, and whether that is a coded extent: the plain
        bytes stay as they are where nothing shrinks and nothing is encrypted. The encoder lets go
        of them.
        """
        if self._held:
            self._end_frame()
        pieces, self._frames = self._frames, []
        if self._cipher is None and not self._shrunk:
            return pieces, False
        table = struct.pack(f"<{len(self._entries)}I", *self._entries)
        return [table, *pieces], True

    def _end_frame(self) -> None:
        plain, self._held = self._held, bytearray()
        self._add(plain)

    def _add(self, plain: Data) -> None:
        index = len(self._frames)
        flag = 0
        frame = plain
        if self._compress and (self._shrunk or index < _PROBED_FRAMES):
            small = _compressed(plain)
            if len(small) < len(plain) - len(plain) // _SAVED_SHARE:
                frame, flag, self._shrunk = small, COMPRESSED, True
        if self._cipher is not None:
            nonce = _PLACE.pack(self._place, index)
            bound = _bound(self._place, index, len(plain), flag)
            frame = self._cipher.encrypt(nonce, frame, bound)
        self._frames.append(bytes(frame))
        self._entries.append(len(frame) | flag)


def encode(
    data: Data, *, compress: bool, data_key: bytes | None, frame_bytes: int = FRAME_BYTES
) -> bytes | None:
    """A whole body as one coded extent; None when it is to lie there as it is."""
    encoder = Encoder(0, compress=compress, data_key=data_key, frame_bytes=frame_bytes)
    encoder.update(data)
    pieces, coded = encoder.finish()
    return b"".join(pieces) if coded else None


def frames_in(plain_bytes: int, frame_bytes: int) -> int:
    return -(-plain_bytes // frame_bytes)


def table_bytes(plain_bytes: int, frame_bytes: int) -> int:
    return LENGTH_BYTES * frames_in(plain_bytes, frame_bytes)


class CodedExtent:
    """A coded extent as its table tells it: where frames lie, and whether any is compressed.

    Raises: CorruptDataError when the table is not one of an extent of that many bytes.
    """

    def __init__(
        self, table: Data, place: int, plain_bytes: int, stored_bytes: int, frame_bytes: int
    ) -> None:
        count = frames_in(plain_bytes, frame_bytes)
        self._place = place
        self._plain_bytes = plain_bytes
        self._frame_bytes = frame_bytes
        try:
            self._entries = struct.unpack_from(f"<{count}I", table)
        except struct.error as error:
            raise _damaged("the table of frames is cut off") from error
        self.compressed = any(entry & COMPRESSED for entry in self._entries)
        self._offsets = [LENGTH_BYTES * count]
        for entry in self._entries:
            self._offsets.append(self._offsets[-1] + (entry & ~COMPRESSED))
        if self._offsets[-1] != stored_bytes:
            raise _damaged("the table of frames does not add up")

    def stored_range(self, start: int, length: int) -> tuple[int, int]:
        """Offset and length of the frames that hold these plain bytes."""
        first, last = self._covering(start, length)
        return self._offsets[first], self._offsets[last] - self._offsets[first]

    def decode(
        self, stored: Data, start: int, length: int, data_key: bytes | None
    ) -> bytes | memoryview:
        """The plain bytes, from what lies in `stored_range`. Raises: CorruptDataError."""
        first, last = self._covering(start, length)
        cipher = None if data_key is None else AESGCM(data_key)
        view = memoryview(stored)
        base = self._offsets[first]
        skip = start - first * self._frame_bytes
        if last - first == 1:
            only = self._frame(view, first, cipher)
            if len(only) == length:
                return only
            return memoryview(only)[skip : skip + length]
        target = memoryview(bytearray(length))
        done = 0
        for index in range(first, last):
            held = view[self._offsets[index] - base : self._offsets[index + 1] - base]
            size = self._plain_size(index)
            raw = not self._entries[index] & COMPRESSED
            if cipher is not None and raw and not skip and size <= length - done:
                self._decrypt(cipher.decrypt_into, index, held, target[done : done + size])
            else:
                frame = memoryview(self._frame(held, index, cipher))[skip : skip + length - done]
                size = len(frame)
                target[done : done + size] = frame
            done += size
            skip = 0
        return target

    def _covering(self, start: int, length: int) -> tuple[int, int]:
        return start // self._frame_bytes, frames_in(start + length, self._frame_bytes)

    def _frame(self, stored: memoryview, index: int, cipher: AESGCM | None) -> bytes | memoryview:
        plain_bytes = self._plain_size(index)
        frame: bytes | memoryview = stored
        if cipher is not None:
            frame = self._decrypt(cipher.decrypt, index, stored)
        if self._entries[index] & COMPRESSED:
            frame = _decompressed(frame, plain_bytes, index)
        if len(frame) != plain_bytes:
            raise _damaged(f"frame {index} has {len(frame)} bytes instead of {plain_bytes}")
        return frame

    def _decrypt(
        self, decrypt: Callable[..., T], index: int, stored: memoryview, *target: memoryview
    ) -> T:
        nonce = _PLACE.pack(self._place, index)
        flag = self._entries[index] & COMPRESSED
        bound = _bound(self._place, index, self._plain_size(index), flag)
        try:
            return decrypt(nonce, stored, bound, *target)
        except (InvalidTag, ValueError) as error:
            raise _damaged(f"frame {index} does not decrypt") from error

    def _plain_size(self, index: int) -> int:
        return min(self._frame_bytes, self._plain_bytes - index * self._frame_bytes)


def _bound(place: int, index: int, plain_bytes: int, flag: int) -> bytes:
    return _BOUND.pack(place, index, plain_bytes, bool(flag))


def _damaged(what: str) -> CorruptDataError:
    return CorruptDataError("decode body", "", what)


# --- Zstandard, loaded by the first body that needs it ---


class _Contexts(threading.local):
    """A compressor and a decompressor for each thread: neither may be shared."""

    def __init__(self) -> None:
        self.compressor: zstandard.ZstdCompressor | None = None
        self.decompressor: zstandard.ZstdDecompressor | None = None


_contexts = _Contexts()


def _compressed(frame: Data) -> bytes:
    compressor = _contexts.compressor
    if compressor is None:
        import zstandard

        compressor = _contexts.compressor = zstandard.ZstdCompressor(LEVEL, write_checksum=True)
    return compressor.compress(frame)


def _decompressed(frame: Data, plain_bytes: int, index: int) -> bytes:
    import zstandard

    decompressor = _contexts.decompressor
    if decompressor is None:
        decompressor = _contexts.decompressor = zstandard.ZstdDecompressor()
    try:
        if zstandard.frame_content_size(frame) != plain_bytes:
            raise _damaged(f"compressed frame {index} is of another size")
        return decompressor.decompress(frame)
    except zstandard.ZstdError as error:
        raise _damaged(f"frame {index} does not decompress: {error}") from error
