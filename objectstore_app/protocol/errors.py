"""THE table of S3 errors: code → status, default message, extra fields; and how one looks on the
wire.

Nothing else in the application decides a status. A code that is not in the table, or an extra field
that its row does not name, is a programmer's fault. Source: AWS, "Amazon S3 error responses".

ObjectStoreError
└─ S3Error           anything that a client is told as an S3 error
   └─ HttpError      (http1) the request broke HTTP itself: answer, then close the connection
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import ObjectStoreError, invariant
from .xml_text import XML_HEAD, escape


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """One row: `fields` are the extra XML elements that this code may carry, in order."""

    code: str
    status: int
    message: str
    fields: tuple[str, ...] = ()


_ARGUMENT = ("ArgumentName", "ArgumentValue")
_SIGNATURE = (
    "AWSAccessKeyId",
    "StringToSign",
    "SignatureProvided",
    "StringToSignBytes",
    "CanonicalRequest",
    "CanonicalRequestBytes",
)

_ROWS: tuple[ErrorSpec, ...] = (
    # 3xx
    ErrorSpec("NotModified", 304, "Not Modified"),
    ErrorSpec(
        "PermanentRedirect",
        301,
        "The bucket you are attempting to access must be addressed using the specified endpoint. "
        "Please send all future requests to this endpoint.",
        ("Endpoint", "Bucket"),
    ),
    # the request itself
    ErrorSpec("BadRequest", 400, "The request could not be understood."),
    ErrorSpec("InvalidRequest", 400, "The request is not valid."),
    ErrorSpec("InvalidArgument", 400, "Invalid Argument", _ARGUMENT),
    ErrorSpec("InvalidURI", 400, "Couldn't parse the specified URI.", ("URI",)),
    ErrorSpec(
        "MethodNotAllowed",
        405,
        "The specified method is not allowed against this resource.",
        ("Method", "ResourceType"),
    ),
    ErrorSpec(
        "NotImplemented",
        501,
        "A header or query you provided implies functionality that is not implemented.",
        ("Header", "Operation"),
    ),
    ErrorSpec(
        "RequestHeaderSectionTooLarge",
        400,
        "Your request header section exceeds the maximum allowed size.",
        ("MaxSizeAllowed",),
    ),
    ErrorSpec(
        "RequestTimeout",
        400,
        "Your socket connection to the server was not read from or "
        "written to within the timeout period.",
    ),
    ErrorSpec("MissingRequestBodyError", 400, "Request body is empty."),
    ErrorSpec(
        "MaxMessageLengthExceeded", 400, "Your request was too big.", ("MaxMessageLengthBytes",)
    ),
    ErrorSpec("MissingContentLength", 411, "You must provide the Content-Length HTTP header."),
    ErrorSpec(
        "IncompleteBody",
        400,
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    ),
    ErrorSpec(
        "MalformedXML",
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    ErrorSpec(
        "MalformedACLError",
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    ErrorSpec(
        "MalformedTrailerError",
        400,
        "The request contained trailing data that was not "
        "well-formed or did not conform to our published schema.",
    ),
    ErrorSpec(
        "MetadataTooLarge",
        400,
        "Your metadata headers exceed the maximum allowed metadata size",
        ("Size", "MaxSizeAllowed"),
    ),
    ErrorSpec("KeyTooLongError", 400, "Your key is too long", ("Size", "MaxSizeAllowed")),
    ErrorSpec("UnexpectedContent", 400, "This request does not support content"),
    ErrorSpec(
        "UnsupportedArgument", 400, "The request contained an unsupported argument.", _ARGUMENT
    ),
    # authentication and access
    ErrorSpec(
        "AccessDenied",
        403,
        "Access Denied",
        ("Expires", "ServerTime", "X-Amz-Expires", "HeadersNotSigned"),
    ),
    ErrorSpec("AccessForbidden", 403, "Access Forbidden", ("Method", "ResourceType")),
    ErrorSpec("AccountProblem", 403, "There is a problem with your account."),
    ErrorSpec("AllAccessDisabled", 403, "All access to this object has been disabled."),
    ErrorSpec(
        "AuthorizationHeaderMalformed",
        400,
        "The authorization header that you provided is not valid.",
        ("Region",),
    ),
    ErrorSpec(
        "AuthorizationQueryParametersError",
        400,
        "The authorization query parameters that you provided are not valid.",
        ("Region",),
    ),
    ErrorSpec("CredentialsNotSupported", 400, "This request does not support credentials."),
    ErrorSpec("ExpiredToken", 400, "The provided token has expired.", ("Token-0",)),
    ErrorSpec(
        "InvalidAccessKeyId",
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
        ("AWSAccessKeyId",),
    ),
    ErrorSpec("InvalidSecurity", 403, "The provided security credentials are not valid."),
    ErrorSpec(
        "InvalidToken", 400, "The provided token is malformed or otherwise not valid.", ("Token-0",)
    ),
    ErrorSpec("MissingAuthenticationToken", 403, "The request was not signed."),
    ErrorSpec(
        "MissingSecurityHeader",
        400,
        "Your request is missing a required header.",
        ("MissingHeaderName",),
    ),
    ErrorSpec("NotSignedUp", 403, "Your account is not signed up for this service."),
    ErrorSpec("RequestExpired", 400, "Request has expired."),
    ErrorSpec(
        "RequestTimeTooSkewed",
        403,
        "The difference between the request time and the current time is too large.",
        ("RequestTime", "ServerTime", "MaxAllowedSkewMilliseconds"),
    ),
    ErrorSpec(
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match "
        "the signature you provided. Check your key and signing method.",
        _SIGNATURE,
    ),
    ErrorSpec("UnauthorizedAccess", 403, "You are not allowed to do this."),
    # payload integrity
    ErrorSpec(
        "BadDigest",
        400,
        "The Content-MD5 or checksum value that you specified did not "
        "match what the server received.",
        ("ExpectedDigest", "CalculatedDigest"),
    ),
    ErrorSpec(
        "InvalidDigest", 400, "The Content-MD5 you specified is not valid.", ("Content-MD5",)
    ),
    ErrorSpec(
        "XAmzContentSHA256Mismatch",
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ("ClientComputedContentSHA256", "S3ComputedContentSHA256"),
    ),
    ErrorSpec(
        "InvalidChunkSizeError",
        403,
        "Only the last chunk is allowed to have a size less than 8192 bytes",
        ("Chunk", "BadChunkSize"),
    ),
    ErrorSpec(
        "EntityTooLarge",
        400,
        "Your proposed upload exceeds the maximum allowed size",
        ("ProposedSize", "MaxSizeAllowed"),
    ),
    ErrorSpec(
        "EntityTooSmall",
        400,
        "Your proposed upload is smaller than the minimum allowed size",
        ("ProposedSize", "MinSizeAllowed", "PartNumber", "ETag"),
    ),
    # buckets
    ErrorSpec("NoSuchBucket", 404, "The specified bucket does not exist", ("BucketName",)),
    ErrorSpec(
        "BucketAlreadyExists",
        409,
        "The requested bucket name is not available. The bucket "
        "namespace is shared by all users of the system. Please select a different name and "
        "try again.",
        ("BucketName",),
    ),
    ErrorSpec(
        "BucketAlreadyOwnedByYou",
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
        ("BucketName",),
    ),
    ErrorSpec(
        "BucketNotEmpty", 409, "The bucket you tried to delete is not empty", ("BucketName",)
    ),
    ErrorSpec("InvalidBucketName", 400, "The specified bucket is not valid.", ("BucketName",)),
    ErrorSpec(
        "InvalidBucketState", 409, "The request is not valid with the current state of the bucket."
    ),
    ErrorSpec(
        "InvalidLocationConstraint",
        400,
        "The specified location-constraint is not valid",
        ("LocationConstraint",),
    ),
    ErrorSpec(
        "IllegalLocationConstraintException",
        400,
        "The specified location constraint is incompatible with the region of this endpoint.",
    ),
    ErrorSpec(
        "IllegalVersioningConfigurationException",
        400,
        "The versioning configuration specified in the request is not valid.",
    ),
    ErrorSpec("TooManyBuckets", 400, "You have attempted to create more buckets than allowed"),
    ErrorSpec(
        "OperationAborted",
        409,
        "A conflicting conditional operation is currently in "
        "progress against this resource. Please try again.",
    ),
    ErrorSpec(
        "OwnershipControlsNotFoundError",
        404,
        "The bucket ownership controls were not found",
        ("BucketName",),
    ),
    ErrorSpec("NoSuchBucketPolicy", 404, "The bucket policy does not exist", ("BucketName",)),
    ErrorSpec(
        "NoSuchCORSConfiguration", 404, "The CORS configuration does not exist", ("BucketName",)
    ),
    ErrorSpec(
        "NoSuchLifecycleConfiguration",
        404,
        "The lifecycle configuration does not exist",
        ("BucketName",),
    ),
    ErrorSpec(
        "NoSuchWebsiteConfiguration",
        404,
        "The specified bucket does not have a website configuration",
        ("BucketName",),
    ),
    ErrorSpec("NoSuchTagSet", 404, "The TagSet does not exist", ("BucketName",)),
    ErrorSpec(
        "NoSuchPublicAccessBlockConfiguration",
        404,
        "The public access block configuration was not found",
        ("BucketName",),
    ),
    ErrorSpec(
        "NoSuchObjectLockConfiguration",
        404,
        "The specified object does not have an ObjectLock configuration",
    ),
    ErrorSpec(
        "ObjectLockConfigurationNotFoundError",
        404,
        "Object Lock configuration does not exist for this bucket",
        ("BucketName",),
    ),
    ErrorSpec(
        "ReplicationConfigurationNotFoundError",
        404,
        "The replication configuration was not found",
        ("BucketName",),
    ),
    ErrorSpec(
        "ServerSideEncryptionConfigurationNotFoundError",
        404,
        "The server side encryption configuration was not found",
        ("BucketName",),
    ),
    ErrorSpec("AccessControlListNotSupported", 400, "The bucket does not allow ACLs"),
    # objects
    ErrorSpec("NoSuchKey", 404, "The specified key does not exist.", ("Key",)),
    ErrorSpec("NoSuchVersion", 404, "The specified version does not exist.", ("Key", "VersionId")),
    ErrorSpec(
        "InvalidObjectState",
        403,
        "The operation is not valid for the current state of the object.",
        ("StorageClass",),
    ),
    ErrorSpec(
        "InvalidRange",
        416,
        "The requested range is not satisfiable",
        ("RangeRequested", "ActualObjectSize"),
    ),
    ErrorSpec(
        "PreconditionFailed",
        412,
        "At least one of the pre-conditions you specified did not hold",
        ("Condition",),
    ),
    ErrorSpec(
        "ConditionalRequestConflict",
        409,
        "A conflicting operation occurred during the request to this resource. Please try again.",
        ("Condition", "Key"),
    ),
    ErrorSpec(
        "InvalidStorageClass",
        400,
        "The storage class you specified is not valid",
        ("StorageClassRequested",),
    ),
    ErrorSpec(
        "InvalidEncryptionAlgorithmError",
        400,
        "The encryption request that you specified is not valid. The valid value is AES256.",
        _ARGUMENT,
    ),
    ErrorSpec("KMS.NotFoundException", 400, "There is no key of that name.", ("KeyId",)),
    ErrorSpec("InvalidTag", 400, "The tag provided was not a valid tag.", ("TagKey", "TagValue")),
    ErrorSpec(
        "UnresolvableGrantByEmailAddress",
        400,
        "The email address you provided does not match any account on record.",
    ),
    # multipart
    ErrorSpec(
        "NoSuchUpload",
        404,
        "The specified upload does not exist. The upload ID may be "
        "invalid, or the upload may have been aborted or completed.",
        ("UploadId",),
    ),
    ErrorSpec(
        "InvalidPart",
        400,
        "One or more of the specified parts could not be found. The part "
        "may not have been uploaded, or the specified entity tag may not match the part's "
        "entity tag.",
        ("UploadId", "PartNumber", "ETag"),
    ),
    ErrorSpec(
        "InvalidPartOrder",
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
        ("UploadId",),
    ),
    ErrorSpec(
        "InvalidPartNumber",
        416,
        "The requested partnumber is not satisfiable",
        ("PartNumberRequested", "ActualPartCount"),
    ),
    # the server
    ErrorSpec("InternalError", 500, "We encountered an internal error. Please try again."),
    ErrorSpec("ServiceUnavailable", 503, "Service is unable to handle request."),
    ErrorSpec("SlowDown", 503, "Please reduce your request rate."),
    ErrorSpec("InsufficientStorage", 507, "The store has no room for this request."),
    ErrorSpec("HTTPVersionNotSupported", 505, "The HTTP version used is not supported."),
)


def _table(rows: Sequence[ErrorSpec]) -> dict[str, ErrorSpec]:
    table: dict[str, ErrorSpec] = {}
    for row in rows:
        invariant(row.code not in table, f"S3 error code {row.code} is in the table twice")
        table[row.code] = row
    return table


ERRORS = _table(_ROWS)


class S3Error(ObjectStoreError):
    """An answer to a client: a code of the table, a message, and the fields its row allows.

    `headers` go into the response (`Content-Range`, `x-amz-delete-marker`, `Allow`, …).
    A field's hyphens are given as underscores: `Token_0=…` is `<Token-0>`.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        **fields: str | int | bytes,
    ) -> None:
        spec = ERRORS.get(code)
        if spec is None:
            invariant(False, f"no such S3 error code: {code}")
            raise AssertionError  # for the type checker: the line above always raises
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        for name in named:
            invariant(name in spec.fields, f"S3 error {code} has no field {name}")
        self.code = code
        self.status = spec.status
        self.message = spec.message if message is None else message
        self.fields = named
        self.headers = list(headers)
        self.retryable = spec.status >= 500 or code in ("OperationAborted", "RequestTimeout")
        super().__init__(code, "", self.message)

    def to_xml(self, resource: str | bytes, request_id: str, host_id: str = "") -> bytes:
        """The body of the error response; `resource` is the path as the client named it.

        Code and Message come first, then the extras, then where and which request.
        """
        extras = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in self.fields.items())
        return (
            f"{XML_HEAD}<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message>"
            f"{extras}<Resource>{escape(resource)}</Resource>"
            f"<RequestId>{escape(request_id)}</RequestId><HostId>{escape(host_id)}</HostId></Error>"
        ).encode()
