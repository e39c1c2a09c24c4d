"""Finishing a multipart upload: what the finished object's ETag and checksum are.

Pure but for the types: the parts were read from the metadata service, whose writer checks again, in
its order, that they are still those. Source: AWS, "Checking object integrity", multipart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.limits import PART_BYTES_MIN
from ..metadata_service.api import Attributes, CompletedPart, Part, Upload
from ..protocol import checksums
from ..protocol.checksums import COMPOSITE, FULL_OBJECT, Algorithm
from ..protocol.errors import S3Error
from ..protocol.xml_read import NamedPart
from .integrity import DEFAULT_ALGORITHM


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished object as computed from its parts."""

    parts: tuple[CompletedPart, ...]
    etag: str
    size: int
    attributes: Attributes


def complete(upload: Upload, stored: Sequence[Part], named: Sequence[NamedPart]) -> Completion:
    """Put the named parts together.

    Raises: S3Error InvalidPart, EntityTooSmall, InvalidRequest.
    """
    algorithm = Algorithm(upload.checksum_algorithm or DEFAULT_ALGORITHM.value)
    kind = upload.checksum_type or FULL_OBJECT
    chosen = _chosen_parts(upload, stored, named)
    md5s = b"".join([bytes.fromhex(part.etag) for part in chosen])
    etag = f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(chosen)}"
    values = [part.checksums[algorithm.value] for part in chosen]
    if kind == COMPOSITE:
        value = checksums.composite(algorithm, values)
    else:
        pairs = [(one, part.size) for one, part in zip(values, chosen, strict=True)]
        value = checksums.full_object(algorithm, pairs)
    base = upload.attributes
    attributes = Attributes(
        headers=base.headers,
        user=base.user,
        acl=base.acl,
        checksums={algorithm.value: value},
        checksum_type=kind,
        part_sizes=tuple(part.size for part in chosen),
        part_checksums=tuple(values),
        encryption=base.encryption,
    )
    return Completion(
        tuple(CompletedPart(part.number, part.etag) for part in chosen),
        etag,
        sum(part.size for part in chosen),
        attributes,
    )


def _chosen_parts(upload: Upload, stored: Sequence[Part], named: Sequence[NamedPart]) -> list[Part]:
    by_number = {part.number: part for part in stored}
    chosen: list[Part] = []
    for name in named:
        part = by_number.get(name.number)
        if part is None or part.etag != name.etag:
            raise S3Error(
                "InvalidPart", UploadId=upload.upload_id, PartNumber=name.number, ETag=name.etag
            )
        _check_named_checksums(upload, part, name)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < PART_BYTES_MIN:
            raise S3Error(
                "EntityTooSmall",
                ProposedSize=part.size,
                MinSizeAllowed=PART_BYTES_MIN,
                PartNumber=part.number,
                ETag=part.etag,
            )
    return chosen


def _check_named_checksums(upload: Upload, part: Part, name: NamedPart) -> None:
    """A checksum given with a part must be the stored one; a composite upload needs it given."""
    for algorithm, value in name.checksums.items():
        if value and part.checksums.get(algorithm) != value:
            raise S3Error(
                "InvalidPart", UploadId=upload.upload_id, PartNumber=part.number, ETag=part.etag
            )
