"""What requests say about encryption at rest: headers, the bucket's document, answers' headers.

An `Encryption` is told in three places: by a request's headers, by a bucket's default and by a
stored object, where it lies as text (`str(encryption)`). Keys of the key store are named plainly,
as `key/NAME`, `alias/NAME` or as an ARN that ends in one of these. Source: AWS, "Protecting data
with server-side encryption", "Specifying SSE-C"; PutBucketEncryption.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import S3Error
from .xml_read import parse_document
from .xml_text import XML_HEAD, escape
from .xml_write import XMLNS

SSE_S3 = "AES256"
SSE_KMS = "aws:kms"
SSE_C = "SSE-C"
CUSTOMER_KEY_BYTES = 32

PREFIX = b"x-amz-server-side-encryption"
COPY_PREFIX = b"x-amz-copy-source-server-side-encryption"
_KEY_ID = PREFIX + b"-aws-kms-key-id"
_CUSTOMER = b"-customer-algorithm"
_CUSTOMER_KEY = b"-customer-key"
_CUSTOMER_MD5 = b"-customer-key-md5"

ASKING = frozenset(
    (PREFIX, _KEY_ID, PREFIX + _CUSTOMER, PREFIX + _CUSTOMER_KEY, PREFIX + _CUSTOMER_MD5)
)
"""The headers by which a request says anything about encryption."""

_SHOWN = "x-amz-server-side-encryption"
_DSSE = "aws:kms:dsse"
_ALGORITHMS = (SSE_S3, SSE_KMS)


@dataclass(frozen=True, slots=True)
class Encryption:
    """`key` is the store key's name for SSE_KMS ("" means the store's default), the MD5 of the
    customer's key in base64 for SSE_C.
    """

    algorithm: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.algorithm} {self.key}".rstrip()

    def headers(self) -> list[tuple[str, str]]:
        """What answers tell of it."""
        if self.algorithm == SSE_C:
            return [
                (f"{_SHOWN}-customer-algorithm", SSE_S3),
                (f"{_SHOWN}-customer-key-MD5", self.key),
            ]
        headers = [(_SHOWN, self.algorithm)]
        if self.algorithm == SSE_KMS:
            headers.append((f"{_SHOWN}-aws-kms-key-id", self.key))
        return headers


def parse_stored(text: str) -> Encryption:
    """What `str` made of an encryption."""
    algorithm, _, key = text.partition(" ")
    return Encryption(algorithm, key)


def parse_asked(headers: Mapping[bytes, bytes]) -> Encryption | None:
    """The encryption with keys of the store that a request's headers ask for.

    Raises: S3Error InvalidArgument, NotImplemented.
    """
    value = headers.get(PREFIX)
    key_id = headers.get(_KEY_ID)
    if value is None:
        if key_id is not None:
            raise _invalid(
                "The request has a key id but does not ask for server-side encryption with it.",
                _KEY_ID,
                key_id,
            )
        return None
    algorithm = value.decode("latin-1")
    if PREFIX + _CUSTOMER in headers:
        raise _invalid(
            "Server Side Encryption with Customer provided key is incompatible with the encryption "
            "method specified",
            PREFIX,
            value,
        )
    if algorithm == _DSSE:
        raise S3Error("NotImplemented", f"{_DSSE} is not implemented by this store.")
    if algorithm not in _ALGORITHMS:
        raise _invalid("The encryption method specified is not supported", PREFIX, value)
    if algorithm == SSE_S3 and key_id is not None:
        raise _invalid("A key id goes with aws:kms only.", _KEY_ID, key_id)
    return Encryption(algorithm, key_name((key_id or b"").decode("latin-1")))


def key_name(key_id: str) -> str:
    """The name of a store key as clients write it."""
    return key_id.rpartition("/")[2]


def parse_customer_key(
    headers: Mapping[bytes, bytes], *, secure: bool, prefix: bytes = PREFIX
) -> tuple[Encryption, bytes] | None:
    """The encryption with a key of the client's that headers ask for, and that key.

    Raises: S3Error InvalidArgument, InvalidRequest (not over TLS), InvalidEncryptionAlgorithmError.
    """
    algorithm, key, md5 = (
        headers.get(prefix + name) for name in (_CUSTOMER, _CUSTOMER_KEY, _CUSTOMER_MD5)
    )
    if algorithm is None and key is None and md5 is None:
        return None
    if not secure:
        raise S3Error(
            "InvalidRequest",
            "Requests specifying Server Side Encryption with Customer provided keys must be made "
            "over a secure connection.",
        )
    for name, value, what in (
        (_CUSTOMER, algorithm, "provide a valid encryption algorithm."),
        (_CUSTOMER_KEY, key, "provide an appropriate secret key."),
        (_CUSTOMER_MD5, md5, "provide the client calculated MD5 of the secret key."),
    ):
        if not value:
            raise _invalid(
                "Requests specifying Server Side Encryption with Customer provided keys must "
                + what,
                prefix + name,
                b"",
            )
    if algorithm != SSE_S3.encode():
        raise S3Error("InvalidEncryptionAlgorithmError")
    raw = _base64(key or b"")
    if len(raw) != CUSTOMER_KEY_BYTES:
        raise _invalid(
            "The secret key was invalid for the specified algorithm.", prefix + _CUSTOMER_KEY, b""
        )
    digest = hashlib.md5(raw, usedforsecurity=False).digest()
    if not hmac.compare_digest(digest, _base64(md5 or b"")):
        raise _invalid(
            "The calculated MD5 hash of the key did not match the hash that was provided.",
            prefix + _CUSTOMER_MD5,
            md5 or b"",
        )
    return Encryption(SSE_C, base64.b64encode(digest).decode()), raw


def _base64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return b""


def _invalid(message: str, header: bytes, value: bytes) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=header.decode(), ArgumentValue=value)


# --- a bucket's default ---


@dataclass(frozen=True, slots=True)
class BucketEncryption:
    """`bucket_key` is kept and told again: it asks for fewer calls to a key service, and ours costs
    none.
    """

    encryption: Encryption
    bucket_key: bool = False


def parse_bucket_encryption(body: bytes) -> BucketEncryption:
    """Raises: S3Error MalformedXML, InvalidArgument, NotImplemented."""
    root = parse_document(body, "ServerSideEncryptionConfiguration")
    rules = [child for child in root.children if child.name == "Rule"]
    if len(rules) != 1 or len(root.children) != 1:
        raise S3Error("MalformedXML", "Exactly one Rule must be given.")
    default = rules[0].find("ApplyServerSideEncryptionByDefault")
    if default is None:
        raise S3Error("MalformedXML", "The Rule needs an ApplyServerSideEncryptionByDefault.")
    algorithm = default.need("SSEAlgorithm").strip()
    key_id = (default.get("KMSMasterKeyID") or "").strip()
    if algorithm == _DSSE:
        raise S3Error("NotImplemented", f"{_DSSE} is not implemented by this store.")
    if algorithm not in _ALGORITHMS:
        raise S3Error("MalformedXML", "SSEAlgorithm must be AES256 or aws:kms.")
    if algorithm == SSE_S3 and key_id:
        raise S3Error(
            "InvalidArgument",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
            ArgumentName="ApplyServerSideEncryptionByDefault",
        )
    bucket_key = (rules[0].get("BucketKeyEnabled") or "false").strip()
    if bucket_key not in ("true", "false"):
        raise S3Error("MalformedXML", "BucketKeyEnabled must be true or false.")
    return BucketEncryption(Encryption(algorithm, key_name(key_id)), bucket_key == "true")


def bucket_encryption_xml(setting: BucketEncryption) -> bytes:
    encryption = setting.encryption
    key = f"<KMSMasterKeyID>{escape(encryption.key)}</KMSMasterKeyID>" if encryption.key else ""
    return (
        f'{XML_HEAD}<ServerSideEncryptionConfiguration xmlns="{XMLNS}">'
        f"<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{encryption.algorithm}"
        f"</SSEAlgorithm>{key}</ApplyServerSideEncryptionByDefault>"
        f"<BucketKeyEnabled>{str(setting.bucket_key).lower()}</BucketKeyEnabled></Rule>"
        "</ServerSideEncryptionConfiguration>"
    ).encode()
