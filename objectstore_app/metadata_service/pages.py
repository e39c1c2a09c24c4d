"""What listings tell of a checksum, and the form of their pages on the wire between nodes.

In a process a page's entries are plain tuples, in the shape that `protocol/xml_write.py` renders.
On the wire (`cluster.py`) pages keep the form of the first release, so that nodes of two releases
understand each other.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from ..protocol.checksums import FULL_OBJECT
from .api import Attributes, ObjectRow, ObjectsPage, VersionRow, VersionsPage

HOUR_MS = 3_600_000


def checksum_text(attributes: Attributes) -> str:
    """What a listing tells of the checksum: the algorithm, and the type where it is another than
    FULL_OBJECT (`SHA256 COMPOSITE`); empty where there is none.
    """
    for algorithm in attributes.checksums:
        kind = attributes.checksum_type
        return algorithm if kind == FULL_OBJECT else f"{algorithm} {kind}"
    return ""


# --- the form on the wire ---


class SentVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An `ObjectVersion` without its body; `attributes` tell no more than the checksum."""

    key: bytes
    order: int
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner: str
    delete_marker: bool = False
    latest: bool = True
    attributes: Attributes = Attributes()


class SentObjects(msgspec.Struct, frozen=True, kw_only=True):
    entries: tuple[SentVersion | bytes, ...]
    truncated: bool
    next_after: bytes = b""


class SentVersions(msgspec.Struct, frozen=True, kw_only=True):
    entries: tuple[SentVersion | bytes, ...]
    truncated: bool
    next_key: bytes = b""
    next_version_id: str = ""


def send_objects(page: ObjectsPage) -> SentObjects:
    """`page` tells owners. Of an object its listing tells neither version id nor order."""
    objects = [
        SentVersion(
            key=key, order=0, version_id="", size=size, etag=etag, modified_ms=hour * HOUR_MS + ms,
            owner=owner or "", attributes=_attributes(checksum),
        )
        for key, hour, ms, etag, size, checksum, owner, _ in page.objects
    ]  # fmt: skip
    return SentObjects(
        entries=(*objects, *page.prefixes), truncated=page.truncated, next_after=page.next_after
    )


def received_objects(sent: SentObjects) -> ObjectsPage:
    objects: list[ObjectRow] = [
        (
            one.key,
            *divmod(one.modified_ms, HOUR_MS),
            one.etag,
            one.size,
            checksum_text(one.attributes),
            one.owner,
            0,
        )
        for one in sent.entries
        if isinstance(one, SentVersion)
    ]
    prefixes = [one for one in sent.entries if isinstance(one, bytes)]
    return ObjectsPage(objects, prefixes, sent.truncated, sent.next_after)


def send_versions(page: VersionsPage) -> SentVersions:
    versions = []
    seen = page.continued
    for key, version_id, hour, ms, etag, size, checksum, marker, owner, order in page.versions:
        versions.append(
            SentVersion(
                key=key, order=order, version_id=version_id, size=size, etag=etag,
                modified_ms=hour * HOUR_MS + ms, owner=owner, delete_marker=bool(marker),
                latest=key != seen, attributes=_attributes(checksum),
            )
        )  # fmt: skip
        seen = key
    return SentVersions(
        entries=(*versions, *page.prefixes),
        truncated=page.truncated,
        next_key=page.next_key,
        next_version_id=page.next_version_id,
    )


def received_versions(sent: SentVersions) -> VersionsPage:
    entries = [one for one in sent.entries if isinstance(one, SentVersion)]
    versions: list[VersionRow] = [
        (
            one.key, one.version_id, *divmod(one.modified_ms, HOUR_MS), one.etag, one.size,
            checksum_text(one.attributes), int(one.delete_marker), one.owner, one.order,
        )
        for one in entries
    ]  # fmt: skip
    return VersionsPage(
        versions,
        [one for one in sent.entries if isinstance(one, bytes)],
        continued=entries[0].key if entries and not entries[0].latest else b"",
        truncated=sent.truncated,
        next_key=sent.next_key,
        next_version_id=sent.next_version_id,
    )


@lru_cache(maxsize=64)
def _attributes(checksum: str) -> Attributes:
    if not checksum:
        return Attributes()
    algorithm, _, kind = checksum.partition(" ")
    return Attributes(checksums={algorithm: ""}, checksum_type=kind or FULL_OBJECT)
