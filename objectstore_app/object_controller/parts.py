"""Bodies of very large versions, whose parts keep rows of their own: read as a range asks for them.

A version of terabytes has some hundred thousand extents. They are neither in its row nor ever in
memory together: the sizes of the parts say which of them a range touches, and their rows are
fetched a few at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec

from ..core.errors import invariant
from ..core.limits import KEPT_PARTS_AT_ONCE
from ..media.api import Extent
from ..metadata_service.api import Body, Bucket, MetadataClient, ObjectVersion, Part
from ..metadata_service.errors import UnavailableError

NO_BODY = Body()
Touched = tuple[Extent, int, int]


async def stored_parts(metadata: MetadataClient, bucket: Bucket, upload_id: str) -> list[Part]:
    """All parts of an upload, without their bodies, of which there may be very many."""
    parts: list[Part] = []
    while found := await metadata.parts(
        bucket, upload_id, after=parts[-1].number if parts else 0, limit=KEPT_PARTS_AT_ONCE
    ):
        parts += [msgspec.structs.replace(part, body=NO_BODY) for part in found]
    return parts


class KeptParts:
    """The body of a version that names an upload."""

    def __init__(self, metadata: MetadataClient, bucket: Bucket, version: ObjectVersion) -> None:
        self._metadata = metadata
        self._bucket = bucket
        self._upload = version.body.upload
        self._sizes = version.attributes.part_sizes
        self._numbers = version.body.part_numbers or range(1, len(self._sizes) + 1)

    async def touched(self, start: int, length: int) -> AsyncIterator[Touched]:
        """The extents that a range touches. Raises: UnavailableError when the version is gone."""
        first, skip = 0, start
        while first < len(self._sizes) and skip >= self._sizes[first]:
            skip -= self._sizes[first]
            first += 1
        left = length
        while left:
            found = await self._metadata.parts(
                self._bucket,
                self._upload,
                after=self._numbers[first] - 1,
                limit=KEPT_PARTS_AT_ONCE,
            )
            if not found:
                raise UnavailableError("read parts", self._upload, "the object was removed")
            for part in found:
                size = min(left, part.size - skip)
                for extent in touched_extents(part.body.extents, skip, size):
                    yield extent
                left -= size
                skip = 0
                if not left:
                    return
            first += len(found)


def touched_extents(extents: Iterable[Extent], start: int, length: int) -> Iterator[Touched]:
    """Those of the extents that a range of all their bytes touches: each with where in it to begin,
    and how many bytes.
    """
    skip, left = start, length
    for extent in extents:
        if not left:
            return
        if skip >= extent.length:
            skip -= extent.length
            continue
        size = min(left, extent.length - skip)
        yield extent, skip, size
        left -= size
        skip = 0
    invariant(left == 0, "extents are as long as their body's size says")
