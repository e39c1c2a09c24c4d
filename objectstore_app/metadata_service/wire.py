"""Frames between processes: a length (u32, little-endian) and a msgpack array of messages.

Many messages travel in one frame, both ways. A mutation's frame is `[[request id, mutation], …]`,
its answer `[[request id, kind, value], …]`: kind 0 is a result, whose type the mutation implies,
any other kind is an error, `value` then its class name, operation, subject and hint.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec

from ..core.errors import ObjectStoreError
from ..core.limits import KIB, MIB, RPC_FRAME_BYTES_MAX
from ..media import errors as media_errors
from . import errors
from .api import (
    AbortUpload,
    AddStoreKey,
    AddUser,
    Bucket,
    CloseBucket,
    CloseKey,
    CompleteUpload,
    CreateBucket,
    CreateUpload,
    Deleted,
    DeleteKey,
    DeleteVersion,
    ForgetBucket,
    ForgetGarbage,
    Moved,
    MovePartBody,
    MoveVersionBody,
    MutationResult,
    OpenBucket,
    Part,
    PutPart,
    PutVersion,
    RemoveBucket,
    RemoveKeyVersion,
    RemoveUser,
    RewrapVersion,
    RotateStoreKey,
    SetBucketAcl,
    SetBucketSetting,
    SetObjectAcl,
    SetVersioning,
    StoreKey,
    Upload,
    User,
    Written,
)
from .machine import Mutation

LENGTH = struct.Struct("<I")
_ARRAY = struct.Struct(">BI")
MESSAGE_BYTES_MAX = RPC_FRAME_BYTES_MAX - _ARRAY.size
RESULT, ERROR = 0, 1

BUFFER_BYTES = 256 * KIB
BUFFER_BYTES_KEPT = 2 * MIB
SPACE_BYTES_MIN = 64 * KIB

Request = tuple[int, Mutation]
Answer = tuple[int, int, msgspec.Raw]
Failure = tuple[str, str, str, str]

encoder = msgspec.msgpack.Encoder()
decode_requests = msgspec.msgpack.Decoder(list[Request]).decode
decode_answers = msgspec.msgpack.Decoder(list[Answer]).decode
_decode_failure = msgspec.msgpack.Decoder(Failure).decode

_RESULTS: dict[type[Mutation], msgspec.msgpack.Decoder[MutationResult]] = {
    mutation: msgspec.msgpack.Decoder(result)
    for mutation, result in (
        (CreateBucket, Bucket),
        (RemoveBucket, None),
        (SetBucketAcl, None),
        (SetBucketSetting, None),
        (AddUser, User),
        (RemoveUser, None),
        (AddStoreKey, StoreKey),
        (RotateStoreKey, StoreKey),
        (RemoveKeyVersion, StoreKey),
        (OpenBucket, None),
        (CloseBucket, None),
        (SetVersioning, None),
        (PutVersion, Written),
        (DeleteKey, Deleted),
        (DeleteVersion, Deleted),
        (SetObjectAcl, Written),
        (CreateUpload, Upload),
        (PutPart, Part),
        (CompleteUpload, Written),
        (AbortUpload, None),
        (MoveVersionBody, Moved),
        (MovePartBody, Moved),
        (ForgetGarbage, None),
        (ForgetBucket, None),
        (CloseKey, None),
        (RewrapVersion, Moved),
    )
}
_ERRORS = {
    kind.__name__: kind
    for module in (errors, media_errors)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ObjectStoreError)
}


class FrameError(ObjectStoreError):
    """The peer sent what is no frame of ours; the connection has to end."""


class FrameReader:
    """Cuts a stream of bytes into frames, in a buffer of its own which they are received into.

    A frame is a view of the buffer: it holds until `space` is called again.
    """

    def __init__(self, frame_bytes_max: int = RPC_FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0

    def space(self) -> memoryview:
        """Where the next bytes go; `received` is told how many did."""
        held = self._end - self._start
        wanted = held + SPACE_BYTES_MIN
        if held >= LENGTH.size:
            wanted = max(wanted, LENGTH.size + LENGTH.unpack_from(self._buffer, self._start)[0])
        if self._start + wanted > len(self._buffer) or not held:
            buffer = self._buffer
            if wanted > len(buffer) or (not held and len(buffer) > BUFFER_BYTES_KEPT):
                buffer = memoryview(bytearray(max(wanted, BUFFER_BYTES)))
            buffer[:held] = self._buffer[self._start : self._end]
            self._buffer, self._start, self._end = buffer, 0, held
        return self._buffer[self._end :]

    def received(self, count: int) -> Iterator[memoryview]:
        """Yield the frames that are complete now. Raises FrameError."""
        self._end += count
        while self._end - self._start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, self._start)
            if length > self._frame_bytes_max:
                raise FrameError("read frame", f"{length} bytes", "too large")
            begin = self._start + LENGTH.size
            if begin + length > self._end:
                return
            self._start = begin + length
            yield self._buffer[begin : begin + length]


def frame(messages: Sequence[bytes]) -> bytes:
    """One frame of an array of messages, each encoded already."""
    length = sum(map(len, messages)) + _ARRAY.size
    return b"".join((LENGTH.pack(length), _ARRAY.pack(0xDD, len(messages)), *messages))


def frame_of(messages: Sequence[object]) -> bytes:
    """One frame of messages that surely fit it."""
    content = encoder.encode(messages)
    return LENGTH.pack(len(content)) + content


def frames(messages: Sequence[bytes]) -> Iterator[bytes]:
    """As few frames as hold the messages, each of which fits one."""
    group: list[bytes] = []
    size = _ARRAY.size
    for message in messages:
        if group and size + len(message) > RPC_FRAME_BYTES_MAX:
            yield frame(group)
            group, size = [], _ARRAY.size
        group.append(message)
        size += len(message)
    if group:
        yield frame(group)


def result_of(mutation: type[Mutation], raw: msgspec.Raw) -> MutationResult:
    """The result that answers a mutation of this type."""
    return _RESULTS[mutation].decode(raw)


def outcomes_of(
    mutations: Sequence[Mutation], answers: Sequence[msgspec.Raw | ObjectStoreError]
) -> list[MutationResult | ObjectStoreError]:
    """The results of many mutations, errors among them."""
    return [
        answer if isinstance(answer, ObjectStoreError) else result_of(type(mutation), answer)
        for mutation, answer in zip(mutations, answers, strict=True)
    ]


def encode_failure(error: ObjectStoreError) -> Failure:
    return type(error).__name__, error.operation, error.subject, error.hint


def decode_failure(raw: msgspec.Raw) -> ObjectStoreError:
    """The error that the other side raised, as the same class."""
    name, operation, subject, hint = _decode_failure(raw)
    return _ERRORS.get(name, errors.UnavailableError)(operation, subject, hint)
