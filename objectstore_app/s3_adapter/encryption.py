"""Encryption and compression of what a request writes, and what a read of it has to bring along.

A write is encrypted as its headers say, else as the bucket's default, else as the store's. The
answer lies with the object (`Attributes.encryption`), so that reads tell it and multipart uploads
keep to it. Compression is the bucket's setting, else the store's; nothing on the wire shows it.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from ..iam.errors import SealError
from ..media.api import ExtentReader
from ..metadata_service.api import (
    CUSTOMER_KEY,
    Attributes,
    Body,
    Bucket,
    ObjectVersion,
    SetBucketSetting,
    Upload,
)
from ..metadata_service.errors import StoreKeyMissingError
from ..object_controller.keychain import DEFAULT_KEY
from ..object_controller.parts import KeptParts
from ..object_controller.transforms import Sealing, Transform, body_context, open_body
from ..protocol import encryption
from ..protocol.encryption import (
    ASKING,
    COPY_PREFIX,
    PREFIX,
    SSE_C,
    SSE_KMS,
    SSE_S3,
    BucketEncryption,
    Encryption,
)
from ..protocol.errors import S3Error
from ..runtime.http import Response
from .access import owned_bucket
from .bodies import read_small_body
from .call import Call, empty, xml

ENCRYPTION, COMPRESSION = "encryption", "compression"
"""Names in `Bucket.settings`."""

ZSTD = b"zstd"

_encode = msgspec.msgpack.Encoder().encode
_decode = lru_cache(maxsize=1024)(msgspec.msgpack.Decoder(BucketEncryption).decode)


# --- writing ---


def plain(call: Call, bucket: Bucket) -> bool:
    """Whether a write of this call is neither encrypted nor compressed: the cheap first look."""
    services = call.services
    return (
        not bucket.settings
        and not (services.encrypted or services.compressed)
        and ASKING.isdisjoint(call.headers)
    )


async def for_write(
    call: Call, bucket: Bucket, attributes: Attributes
) -> tuple[Attributes, Transform | None]:
    """What becomes of the object that this call writes, and its attributes with that in them.

    Raises: S3Error for headers that make no sense, KMS.NotFoundException.
    """
    asked, customer_key = _asked(call, bucket)
    sealing = await _sealing(call, bucket, asked, customer_key)
    if asked is not None:
        attributes = msgspec.structs.replace(attributes, encryption=str(asked))
    return attributes, _transform(call, bucket, sealing)


def compressed(call: Call, bucket: Bucket) -> bool:
    """By the bucket's setting, else the store's."""
    setting = bucket.settings.get(COMPRESSION)
    return setting == ZSTD if setting else call.services.compressed


async def for_part(call: Call, bucket: Bucket, upload: Upload) -> Transform | None:
    """What becomes of a part: what its upload was created with.

    Raises: S3Error InvalidArgument, InvalidRequest (the customer's key is missing or another).
    """
    stored = upload.attributes.encryption
    if not stored and plain(call, bucket):
        return None
    if PREFIX in call.headers:
        raise S3Error(
            "InvalidArgument",
            "A part is encrypted as its upload was created.",
            ArgumentName=PREFIX.decode(),
        )
    asked = encryption.parse_stored(stored) if stored else None
    customer_key = _customer_key(call, asked, PREFIX)
    sealing = await _sealing(call, bucket, asked, customer_key)
    return _transform(call, bucket, sealing)


@lru_cache(maxsize=1024)
def headers_of(stored: str) -> tuple[tuple[str, str], ...]:
    """What an answer tells of `Attributes.encryption`."""
    return tuple(encryption.parse_stored(stored).headers()) if stored else ()


def default_of(call: Call, bucket: Bucket) -> BucketEncryption | None:
    """The bucket's default, else the store's."""
    raw = bucket.settings.get(ENCRYPTION)
    if raw is not None:
        return _decode(raw)
    if call.services.encrypted:
        return BucketEncryption(Encryption(SSE_S3))
    return None


def _asked(call: Call, bucket: Bucket) -> tuple[Encryption | None, bytes]:
    """By the headers, else the default; and the customer's key if it is one."""
    asked = encryption.parse_asked(call.headers)
    customer = encryption.parse_customer_key(call.headers, secure=call.request.secure)
    if customer is not None:
        return customer
    if asked is None:
        default = default_of(call, bucket)
        asked = None if default is None else default.encryption
    if asked is not None and asked.algorithm == SSE_KMS and not asked.key:
        asked = Encryption(SSE_KMS, DEFAULT_KEY)
    return asked, b""


async def _sealing(
    call: Call, bucket: Bucket, asked: Encryption | None, customer_key: bytes
) -> Sealing | None:
    if asked is None:
        return None
    context = body_context(bucket.id, call.location.key)
    if asked.algorithm == SSE_C:
        return Sealing(CUSTOMER_KEY, customer_key, context)
    try:
        key, wrapping_key = await call.services.keys.active(asked.key or DEFAULT_KEY)
    except StoreKeyMissingError as error:
        raise S3Error("KMS.NotFoundException", KeyId=asked.key) from error
    return Sealing(key, wrapping_key, context)


def _transform(call: Call, bucket: Bucket, sealing: Sealing | None) -> Transform | None:
    compress = compressed(call, bucket)
    return Transform(compress, sealing) if compress or sealing else None


# --- reading ---


def check_read(call: Call, stored: str, prefix: bytes = PREFIX) -> bytes:
    """The customer's key for an object stored with that encryption, `b""` where it needs none.

    Raises: S3Error InvalidRequest (a key is missing, or given for an object that has none),
    InvalidArgument, AccessDenied (another key).
    """
    if prefix == PREFIX and not stored.startswith(SSE_C) and ASKING.isdisjoint(call.headers):
        return b""
    if prefix == PREFIX and PREFIX in call.headers:
        raise S3Error(
            "InvalidArgument",
            f"{PREFIX.decode()} is not for requests that read.",
            ArgumentName=PREFIX.decode(),
        )
    return _customer_key(call, encryption.parse_stored(stored) if stored else None, prefix)


def _customer_key(call: Call, stored: Encryption | None, prefix: bytes) -> bytes:
    given = encryption.parse_customer_key(call.headers, secure=call.request.secure, prefix=prefix)
    if stored is None or stored.algorithm != SSE_C:
        if given is not None:
            raise S3Error(
                "InvalidRequest", "The encryption parameters are not applicable to this object."
            )
        return b""
    if given is None:
        raise S3Error(
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct parameters "
            "must be provided to retrieve the object.",
        )
    if given[0].key != stored.key:
        raise S3Error("AccessDenied")
    return given[1]


async def opened(
    call: Call, bucket: Bucket, version: ObjectVersion, customer_key: bytes
) -> tuple[Body | KeptParts, ExtentReader]:
    """A version's body as if it were plain. Raises: as open_body; S3Error AccessDenied for another
    customer's key.
    """
    context = body_context(bucket.id, version.key)
    services = call.services
    if version.body.upload:
        return KeptParts(services.metadata, bucket, version), services.reader
    try:
        return await open_body(version.body, services.reader, services.keys, context, customer_key)
    except SealError as error:
        if customer_key:
            raise S3Error("AccessDenied") from error
        raise


async def opened_source(
    call: Call, bucket: Bucket, version: ObjectVersion
) -> tuple[Body | KeptParts, ExtentReader]:
    """As `opened`, for the source of a copy: its customer's key is in headers of its own."""
    customer_key = check_read(call, version.attributes.encryption, COPY_PREFIX)
    return await opened(call, bucket, version, customer_key)


# --- a bucket's default ---


async def get_bucket(call: Call) -> Response:
    """GetBucketEncryption."""
    bucket = await owned_bucket(call)
    default = default_of(call, bucket)
    if default is None:
        raise S3Error("ServerSideEncryptionConfigurationNotFoundError", BucketName=bucket.name)
    return xml(encryption.bucket_encryption_xml(default))


async def put_bucket(call: Call) -> Response:
    """PutBucketEncryption; the key must be there."""
    bucket = await owned_bucket(call)
    setting = encryption.parse_bucket_encryption(await read_small_body(call))
    name = setting.encryption.key
    if name and await call.services.keys.find(name) is None:
        raise S3Error("KMS.NotFoundException", KeyId=name)
    await set_bucket_setting(call, bucket, ENCRYPTION, _encode(setting))
    return empty()


async def delete_bucket(call: Call) -> Response:
    """DeleteBucketEncryption: from here the store's default holds."""
    bucket = await owned_bucket(call)
    await set_bucket_setting(call, bucket, ENCRYPTION, b"")
    return empty(204)


async def set_bucket_setting(call: Call, bucket: Bucket, name: str, value: bytes) -> None:
    if bucket.settings.get(name, b"") != value:
        await call.services.metadata.mutate_directory(
            SetBucketSetting(id=bucket.id, name=name, value=value)
        )
