"""The write path: a body in, a version of an object or a part of an upload out.

Order: receive while hashing → compare every digest → flush chunks → one mutation that names the
bytes. Whatever fails before the mutation leaves nothing that a reader could see.
"""

from __future__ import annotations

import msgspec

from ..core.ids import UserId
from ..media.api import ChunkWriter
from ..metadata_service.api import (
    Attributes,
    Bucket,
    MetadataClient,
    Part,
    PutPart,
    PutVersion,
    Upload,
    WriteCondition,
    Written,
)
from ..protocol.checksums import FULL_OBJECT, Algorithm
from .integrity import DEFAULT_ALGORITHM, NOTHING_PROMISED, Digests, Promise
from .receive import Payload, Received, UploadMemory, receive
from .results import expect
from .transforms import BodyCoder, Transform


class Storage(msgspec.Struct, frozen=True, gc=False):
    """Where this process reads and writes metadata and chunks; `memory` is for bodies on their
    way.
    """

    metadata: MetadataClient
    chunks: ChunkWriter
    memory: UploadMemory


class Target(msgspec.Struct, frozen=True, gc=False):
    """What a write makes a version of, under which condition, and what becomes of its bytes on the
    way to the medium (None: nothing).
    """

    bucket: Bucket
    key: bytes
    owner: UserId
    attributes: Attributes
    condition: WriteCondition
    transform: Transform | None = None


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A finished write, with the checksums it was stored under."""

    written: Written
    checksums: dict[str, str]


async def put_object(
    storage: Storage,
    target: Target,
    payload: Payload,
    promise: Promise = NOTHING_PROMISED,
    *,
    algorithm: Algorithm | None = None,
) -> Stored:
    """Store a body as a version. `algorithm` is computed when the promise names none.

    Returns after the version is durable. Raises: S3Error for a body that is not as promised, what
    PutVersion and the chunk writer raise.
    """
    digests = _digests(promise, algorithm)
    received = await _receive(storage, payload, digests, target.transform)
    checksums = digests.verify(payload.trailers)
    await _make_durable(storage, received)
    attributes = msgspec.structs.replace(
        target.attributes, checksums=checksums, checksum_type=FULL_OBJECT
    )
    result = await storage.metadata.mutate(
        target.bucket,
        PutVersion(
            bucket=target.bucket.id,
            key=target.key,
            owner=target.owner,
            size=received.size,
            etag=digests.etag,
            attributes=attributes,
            data=received.data,
            extents=received.extents,
            condition=target.condition,
            coding=received.coding,
        ),
    )
    return Stored(expect(result, Written), checksums)


async def put_part(
    storage: Storage,
    bucket: Bucket,
    upload: Upload,
    number: int,
    payload: Payload,
    promise: Promise = NOTHING_PROMISED,
    *,
    transform: Transform | None = None,
) -> Part:
    """Store a body as a part. The upload's own algorithm is computed besides the promised one."""
    wanted = Algorithm(upload.checksum_algorithm or DEFAULT_ALGORITHM.value)
    digests = Digests(promise, wanted)
    received = await _receive(storage, payload, digests, transform)
    checksums = digests.verify(payload.trailers)
    await _make_durable(storage, received)
    result = await storage.metadata.mutate(
        bucket,
        PutPart(
            bucket=bucket.id,
            key=upload.key,
            upload_id=upload.upload_id,
            number=number,
            size=received.size,
            etag=digests.etag,
            checksums=checksums,
            data=received.data,
            extents=received.extents,
            coding=received.coding,
        ),
    )
    return expect(result, Part)


def _digests(promise: Promise, algorithm: Algorithm | None) -> Digests:
    if promise.checksum is not None or algorithm is None:
        return Digests(promise)
    return Digests(promise, algorithm)


async def _receive(
    storage: Storage, payload: Payload, digests: Digests, transform: Transform | None
) -> Received:
    if transform is None:
        return await receive(payload, digests, storage.chunks, storage.memory)
    coder = BodyCoder(transform, storage.chunks, storage.memory)
    return await coder.finish(await receive(payload, digests, coder, storage.memory))


async def _make_durable(storage: Storage, received: Received) -> None:
    """Chunks before the record that names them; small bodies are in the record itself."""
    if received.extents:
        await storage.chunks.flush()
