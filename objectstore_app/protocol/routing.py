"""From method, host and target to what is asked: bucket, key and the operation's name.

Two pure steps. `locate` finds bucket and key (path style, or virtual-hosted style under one of the
configured domains); `operation_of` picks the operation from the method, the level and the
sub-resource. Operations that S3 knows and we do not serve are refused by name here, so that a
sub-resource is never mistaken for the plain operation (`DELETE /b?policy` must not delete `b`).
Source: AWS, "Virtual hosting of buckets", "Bucket naming rules", "Creating object key names".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from ..core.limits import BUCKET_NAME_BYTES_MAX, BUCKET_NAME_BYTES_MIN, KEY_BYTES_MAX
from .errors import S3Error
from .target import NO_QUERY, Query, Target, percent_decode, split_target


class Location(msgspec.Struct, frozen=True, gc=False):
    """`bucket` is empty for the service itself, `key` for a bucket."""

    bucket: str
    key: bytes
    query: Query
    target: Target
    virtual_hosted: bool = False


def locate(target: bytes, host: bytes, domains: tuple[str, ...]) -> Location:
    """Take a target and the Host header apart. `domains` are lower-case, without port.

    Raises: S3Error InvalidURI, InvalidBucketName, KeyTooLongError, InvalidArgument.
    """
    parts = split_target(target)
    if parts.authority and parts.authority.lower() != host.lower():
        # The signature covers the Host header only: another name here would be another bucket.
        raise S3Error("InvalidURI", "The request target and the Host header name different hosts.")
    bucket = bucket_of_host(host, domains) if domains else ""
    virtual_hosted = bool(bucket)
    if virtual_hosted:
        check_bucket_name(bucket)
        key = parts.path[1:]
    else:
        raw_bucket, _, key = parts.path[1:].partition(b"/")
        bucket = _bucket_of_path(raw_bucket)
        if not bucket and key:
            raise S3Error("InvalidBucketName", BucketName="")
    if b"%" in key:
        key = percent_decode(key)
    if key:
        check_key(key)
    query = Query(parts.query) if parts.query else NO_QUERY
    return Location(bucket, key, query, parts, virtual_hosted)


@lru_cache(maxsize=4096)
def _bucket_of_path(raw: bytes) -> str:
    """The name as it stands in a path, checked unless it is empty."""
    name = percent_decode(raw).decode("latin-1")
    if name:
        check_bucket_name(name)
    return name


@lru_cache(maxsize=1024)
def bucket_of_host(host: bytes, domains: tuple[str, ...]) -> str:
    """The bucket that a Host header names, empty for path style (and always for IP addresses)."""
    if not domains:
        return ""
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return ""
    name = name.partition(":")[0].rstrip(".")
    for domain in domains:
        if name.endswith(domain) and name[: -len(domain)].endswith("."):
            return name[: -len(domain) - 1]
    return ""


@lru_cache(maxsize=4096)
def check_bucket_name(name: str) -> None:
    """Raises: S3Error InvalidBucketName. No bucket of such a name can exist, so any operation may
    say so.
    """
    if (
        _BUCKET_NAME.fullmatch(name) is None
        or _BUCKET_BAD_PART.search(name) is not None
        or _IP_ADDRESS.fullmatch(name) is not None
        or name.startswith(_RESERVED_PREFIXES)
        or name.endswith(_RESERVED_SUFFIXES)
    ):
        raise S3Error("InvalidBucketName", BucketName=name)


def check_key(key: bytes) -> None:
    """Raises: S3Error KeyTooLongError, InvalidURI (no UTF-8), InvalidArgument (NUL, empty)."""
    if 0 < len(key) <= KEY_BYTES_MAX and key.isascii() and 0 not in key:
        return
    if not key:
        raise S3Error("InvalidArgument", "An object's key must not be empty.", ArgumentName="Key")
    if len(key) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", Size=len(key), MaxSizeAllowed=KEY_BYTES_MAX)
    if not key.isascii():
        try:
            key.decode()
        except UnicodeDecodeError as error:
            raise S3Error("InvalidURI", "The object's key is not valid UTF-8.") from error
    if b"\0" in key:
        raise S3Error(
            "InvalidArgument", "An object's key must not hold a NUL byte.", ArgumentName="Key"
        )


@dataclass(frozen=True, slots=True)
class CopySource:
    """`x-amz-copy-source` taken apart; `version_id` is empty for the current version."""

    bucket: str
    key: bytes
    version_id: str = ""


def parse_copy_source(value: bytes) -> CopySource:
    """Parse `[/]BUCKET/KEY[?versionId=ID]`, percent-encoded.

    Raises: S3Error InvalidArgument, InvalidBucketName, KeyTooLongError, InvalidURI.
    """
    path, _, query = value.partition(b"?versionId=")
    bucket, slash, key = percent_decode(path).removeprefix(b"/").partition(b"/")
    if not bucket or not slash or not key:
        raise S3Error(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
            ArgumentValue=value,
        )
    name = bucket.decode("latin-1")
    check_bucket_name(name)
    check_key(key)
    version_id = percent_decode(query).decode("latin-1")
    if not version_id and b"?versionId=" in value:
        raise S3Error(
            "InvalidArgument",
            "Version id cannot be the empty string",
            ArgumentName="versionId",
            ArgumentValue="",
        )
    return CopySource(name, key, version_id)


def operation_of(method: str, location: Location, *, copy_source: bool = False) -> str:
    """The operation's name; `copy_source` says whether the request has an x-amz-copy-source.

    Raises: S3Error MethodNotAllowed, NotImplemented (with the operation's name), InvalidArgument.
    """
    level, kind = _SERVICE, "SERVICE"
    if location.key:
        level, kind = _OBJECT, "OBJECT"
    elif location.bucket:
        level, kind = _BUCKET, "BUCKET"
    sub_resource = ""
    if location.query is NO_QUERY:
        plain = level[""].get(method)
        if plain in _NEVER_REFINED:
            return plain
    elif location.query:
        found = [name for name in location.query.names() if name in level]
        if len(found) > 1:
            raise S3Error(
                "InvalidArgument",
                "Conflicting query string parameters: " + ", ".join(sorted(found)),
                ArgumentName="ResourceType",
                ArgumentValue=found[0],
            )
        sub_resource = found[0] if found else ""
    if method == "OPTIONS":
        raise S3Error("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
    methods = level[sub_resource]
    operation = methods.get(method)
    if operation is None:
        raise S3Error(
            "MethodNotAllowed",
            headers=[("Allow", ", ".join(methods))],
            Method=method,
            ResourceType=sub_resource.upper() or kind,
        )
    operation = _refine(operation, location.query, copy_source=copy_source)
    if operation not in IMPLEMENTED:
        raise S3Error(
            "NotImplemented", f"{operation} is not implemented by this store.", Operation=operation
        )
    return operation


def _refine(operation: str, query: Query, *, copy_source: bool) -> str:
    """Tell apart the operations that share method and sub-resource."""
    if operation == "ListObjects" and query.raw("list-type") is not None:
        if query.raw("list-type") != b"2":
            raise S3Error("InvalidArgument", "Invalid List Type", ArgumentName="list-type")
        return "ListObjectsV2"
    if operation == "UploadPart":
        if "partNumber" not in query:
            raise S3Error(
                "InvalidArgument",
                "This operation does not accept a query-string without partNumber.",
                ArgumentName="partNumber",
            )
        return "UploadPartCopy" if copy_source else operation
    if operation == "PutObject":
        if "partNumber" in query:
            raise S3Error(
                "InvalidArgument",
                "partNumber comes together with uploadId.",
                ArgumentName="uploadId",
            )
        return "CopyObject" if copy_source else operation
    return operation


_BUCKET_NAME = re.compile(
    f"[a-z0-9][a-z0-9.-]{{{BUCKET_NAME_BYTES_MIN - 2},{BUCKET_NAME_BYTES_MAX - 2}}}[a-z0-9]"
)
_BUCKET_BAD_PART = re.compile(r"\.\.|\.-|-\.")
_IP_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

_Level = dict[str, dict[str, str]]
"""Sub-resource (empty: none) → method → operation."""


def _configuration(noun: str, methods: str = "GET PUT DELETE") -> dict[str, str]:
    verbs = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}
    return {method: verbs[method] + noun for method in methods.split()}


_SERVICE: _Level = {"": {"GET": "ListBuckets"}}

_BUCKET: _Level = {
    "": {
        "GET": "ListObjects",
        "HEAD": "HeadBucket",
        "PUT": "CreateBucket",
        "DELETE": "DeleteBucket",
        "POST": "PostObject",
    },
    "accelerate": _configuration("BucketAccelerateConfiguration", "GET PUT"),
    "acl": _configuration("BucketAcl", "GET PUT"),
    "analytics": _configuration("BucketAnalyticsConfiguration"),
    "cors": _configuration("BucketCors"),
    "delete": {"POST": "DeleteObjects"},
    "encryption": _configuration("BucketEncryption"),
    "intelligent-tiering": _configuration("BucketIntelligentTieringConfiguration"),
    "inventory": _configuration("BucketInventoryConfiguration"),
    "lifecycle": _configuration("BucketLifecycleConfiguration"),
    "location": {"GET": "GetBucketLocation"},
    "logging": _configuration("BucketLogging", "GET PUT"),
    "metrics": _configuration("BucketMetricsConfiguration"),
    "notification": _configuration("BucketNotificationConfiguration", "GET PUT"),
    "object-lock": _configuration("ObjectLockConfiguration", "GET PUT"),
    "ownershipControls": _configuration("BucketOwnershipControls"),
    "policy": _configuration("BucketPolicy"),
    "policyStatus": {"GET": "GetBucketPolicyStatus"},
    "publicAccessBlock": _configuration("PublicAccessBlock"),
    "replication": _configuration("BucketReplication"),
    "requestPayment": _configuration("BucketRequestPayment", "GET PUT"),
    "session": {"GET": "CreateSession"},
    "tagging": _configuration("BucketTagging"),
    "uploads": {"GET": "ListMultipartUploads"},
    "versioning": _configuration("BucketVersioning", "GET PUT"),
    "versions": {"GET": "ListObjectVersions"},
    "website": _configuration("BucketWebsite"),
}

_OBJECT: _Level = {
    "": {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "PUT": "PutObject",
        "DELETE": "DeleteObject",
    },
    "acl": _configuration("ObjectAcl", "GET PUT"),
    "attributes": {"GET": "GetObjectAttributes"},
    "legal-hold": _configuration("ObjectLegalHold", "GET PUT"),
    "renameObject": {"PUT": "RenameObject"},
    "restore": {"POST": "RestoreObject"},
    "retention": _configuration("ObjectRetention", "GET PUT"),
    "select": {"POST": "SelectObjectContent"},
    "tagging": _configuration("ObjectTagging"),
    "torrent": {"GET": "GetObjectTorrent"},
    "uploadId": {
        "GET": "ListParts",
        "PUT": "UploadPart",
        "POST": "CompleteMultipartUpload",
        "DELETE": "AbortMultipartUpload",
    },
    "uploads": {"POST": "CreateMultipartUpload"},
}

IMPLEMENTED = frozenset(
    [
        "ListBuckets",
        "CreateBucket",
        "HeadBucket",
        "DeleteBucket",
        "GetBucketLocation",
        "GetBucketVersioning",
        "PutBucketVersioning",
        "GetBucketAcl",
        "PutBucketAcl",
        "GetBucketCors",
        "GetBucketEncryption",
        "PutBucketEncryption",
        "DeleteBucketEncryption",
        "GetBucketLifecycleConfiguration",
        "GetBucketOwnershipControls",
        "GetBucketPolicy",
        "GetBucketReplication",
        "GetBucketTagging",
        "GetBucketWebsite",
        "GetObjectLockConfiguration",
        "GetPublicAccessBlock",
        "ListObjects",
        "ListObjectsV2",
        "ListObjectVersions",
        "ListMultipartUploads",
        "DeleteObjects",
        "GetObject",
        "HeadObject",
        "PutObject",
        "DeleteObject",
        "CopyObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectTagging",
        "PutObjectAcl",
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPartCopy",
        "ListParts",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
    ]
)

# Operations that method and path alone decide.
_NEVER_REFINED = frozenset({"GetObject", "HeadObject", "DeleteObject", "HeadBucket"}) & IMPLEMENTED
