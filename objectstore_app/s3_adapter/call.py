"""One request under way: what was asked, by whom, and with what. Operations get nothing else."""

from __future__ import annotations

import msgspec

from ..core.ids import UserId
from ..metadata_service.api import Bucket, User
from ..protocol.errors import S3Error
from ..protocol.routing import Location
from ..protocol.sigv4 import Anonymous, Claim, SigningKey
from ..runtime.http import Request, Response
from .services import Services

Headers = list[tuple[str, str]]

_ORDINARY = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"amz-sdk-invocation-id",
        b"amz-sdk-request",
        b"authorization",
        b"connection",
        b"content-length",
        b"content-md5",
        b"date",
        b"expect",
        b"host",
        b"user-agent",
        b"x-amz-content-sha256",
        b"x-amz-date",
        b"x-amz-decoded-content-length",
    )
)
"""What comes with most requests and says nothing about objects."""


class Call(msgspec.Struct):
    """An authenticated request; its bucket and the caller's access are not yet checked.

    `user` is None for an anonymous caller; `signing_key` also proves the chunks of a signed body.
    `found_bucket` is what was found at the location's bucket name, if that was looked up already.
    """

    services: Services
    request: Request
    location: Location
    headers: dict[bytes, bytes]
    claim: Claim | Anonymous
    user: User | None = None
    signing_key: SigningKey | None = None
    found_bucket: tuple[Bucket | None] | None = None
    _notable: list[tuple[bytes, bytes]] | None = None

    def text(self, name: bytes) -> str:
        """A header's value as text, "" where it is missing."""
        value = self.headers.get(name)
        return "" if value is None else value.decode("latin-1")

    def notable(self) -> list[tuple[bytes, bytes]]:
        """The headers, in order, that may say something about an object: all but the ordinary."""
        if self._notable is None:
            self._notable = [pair for pair in self.headers.items() if pair[0] not in _ORDINARY]
        return self._notable

    @property
    def bucket_name(self) -> str:
        return self.location.bucket

    @property
    def key(self) -> bytes:
        return self.location.key

    def version_id(self) -> str:
        """The `versionId` asked for, "" for the current one.

        Raises: S3Error InvalidArgument for an empty one, and for what none of ours can look like
        (answers name it in a header).
        """
        if not self.location.query:
            return ""
        version_id = self.location.query.text("versionId")
        if version_id is None:
            return ""
        if not version_id:
            raise S3Error(
                "InvalidArgument",
                "Version id cannot be the empty string",
                ArgumentName="versionId",
                ArgumentValue="",
            )
        if not (version_id.isascii() and version_id.isprintable()):
            raise S3Error(
                "InvalidArgument",
                "Invalid version id specified",
                ArgumentName="versionId",
                ArgumentValue=version_id,
            )
        return version_id

    def writer_id(self, bucket: Bucket) -> UserId:
        """Who owns what this call writes: the user, or the bucket's owner for anonymous writes."""
        return bucket.owner if self.user is None else self.user.id


def empty(status: int = 200, headers: Headers | None = None) -> Response:
    return Response(status, [] if headers is None else headers, b"", 0)


def xml(body: bytes, headers: Headers | None = None) -> Response:
    """A document with status 200."""
    all_headers = [("Content-Type", "application/xml")]
    if headers:
        all_headers += headers
    return Response(200, all_headers, body, len(body))
