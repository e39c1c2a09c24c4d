"""The protocol between a gateway and the front ends of other nodes.

Frames as in `wire.py`, over TCP with mutual TLS: `[[request id, method, arguments], …]`, answers
`[[request id, kind, value], …]`. `METHODS` is the whole list of methods, with the types of their
arguments and results. Who holds a certificate of the store's own authority is one of its nodes;
names in certificates are not compared, for nodes are known by address.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from ..core.errors import ObjectStoreError
from ..core.ids import UserId
from ..core.limits import KIB, MIB, RPC_FRAME_BYTES_MAX
from ..media.api import Extent
from .api import (
    AccessKey,
    Bucket,
    BucketState,
    BucketUsage,
    DataMutation,
    DirectoryMutation,
    ObjectVersion,
    Part,
    StoreKey,
    Upload,
    UploadsPage,
    User,
)
from .pages import SentObjects, SentVersions

# An answer may exceed RPC_FRAME_BYTES_MAX: the extents of an object of some terabytes do.
CLUSTER_FRAME_BYTES_MAX = 4 * RPC_FRAME_BYTES_MAX
READ_BYTES_MAX = 8 * MIB
IN_FLIGHT_MAX = 512
RECEIVE_BYTES = 256 * KIB

_Args = TypeVar("_Args")
_Result = TypeVar("_Result")


class ClusterTlsError(ObjectStoreError):
    """The files for the mutual TLS between nodes cannot be used."""


@dataclass(frozen=True, slots=True)
class Method(Generic[_Args, _Result]):
    """A method's name and how its arguments and its result are read."""

    name: str
    arguments: msgspec.msgpack.Decoder[_Args]
    result: msgspec.msgpack.Decoder[_Result]


def _method(name: str, arguments: type[_Args], result: type[_Result]) -> Method[_Args, _Result]:
    return Method(name, msgspec.msgpack.Decoder(arguments), msgspec.msgpack.Decoder(result))


KeyRange = tuple[Bucket, bytes, bytes, bytes, int]
"""Bucket, prefix, after, delimiter, limit."""
NamedRange = tuple[Bucket, bytes, bytes, str, bytes, int]
"""Bucket, prefix, after key, after id, delimiter, limit."""

METHODS: dict[str, Method[tuple[object, ...], object]] = {
    name: _method(name, arguments, result)  # type: ignore[arg-type] # unions are not `type`s
    for name, arguments, result in (
        ("generation", tuple[()], int),
        ("bucket", tuple[str], Bucket | None),
        ("buckets", tuple[UserId], list[Bucket]),
        ("user_of_key", tuple[str], tuple[User, AccessKey] | None),
        ("usage", tuple[str, int], list[BucketUsage]),
        ("users", tuple[()], list[User]),
        ("store_keys", tuple[()], list[StoreKey]),
        ("key_use", tuple[()], dict[int, int]),
        ("state", tuple[Bucket], BucketState),
        ("lookup", tuple[Bucket, bytes, str], ObjectVersion | None),
        ("list_objects", KeyRange, SentObjects),
        ("list_versions", NamedRange, SentVersions),
        ("list_uploads", NamedRange, UploadsPage),
        ("upload", tuple[Bucket, bytes, str], Upload | None),
        ("parts", tuple[Bucket, str, int, int], list[Part]),
        ("mutate_directory", tuple[DirectoryMutation], msgspec.Raw),
        ("mutate", tuple[Bucket, DataMutation], msgspec.Raw),
        ("mutate_shards", tuple[DataMutation], None),
        ("read", tuple[Extent, int, int], bytes),
        ("write", tuple[bytes], Extent),
    )
}
"""`write` answers once the chunk is durable: a gateway's restart loses no acknowledged one."""

MUTATING = frozenset(("mutate_directory", "mutate", "mutate_shards"))
Call = tuple[int, str, msgspec.Raw]
decode_calls = msgspec.msgpack.Decoder(list[Call]).decode


def cluster_context(ca: Path, certificate: Path, key: Path, *, server: bool) -> ssl.SSLContext:
    """Mutual TLS under the store's own authority. Raises ClusterTlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ClusterTlsError("cluster TLS", f"{ca}, {certificate}, {key}", str(error)) from error
    return context
