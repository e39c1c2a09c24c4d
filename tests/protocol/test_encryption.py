"""What requests say about encryption: headers, documents, and what makes no sense."""

from __future__ import annotations

import base64
import hashlib

import pytest

from objectstore_app.protocol.encryption import (
    COPY_PREFIX,
    PREFIX,
    BucketEncryption,
    Encryption,
    bucket_encryption_xml,
    key_name,
    parse_asked,
    parse_bucket_encryption,
    parse_customer_key,
    parse_stored,
)
from objectstore_app.protocol.errors import S3Error

KEY_ID = PREFIX + b"-aws-kms-key-id"
KEY = bytes(range(32))
MD5 = base64.b64encode(hashlib.md5(KEY).digest())


def customer(prefix: bytes = PREFIX, **changes: bytes | None) -> dict[bytes, bytes]:
    given = {"algorithm": b"AES256", "key": base64.b64encode(KEY), "key-md5": MD5}
    given.update({name.replace("_", "-"): value for name, value in changes.items()})
    return {
        prefix + b"-customer-" + name.encode(): value
        for name, value in given.items()
        if value is not None
    }


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({}, None),
        ({PREFIX: b"AES256"}, Encryption("AES256")),
        ({PREFIX: b"aws:kms"}, Encryption("aws:kms")),
        ({PREFIX: b"aws:kms", KEY_ID: b"name"}, Encryption("aws:kms", "name")),
        ({PREFIX: b"aws:kms", KEY_ID: b"alias/name"}, Encryption("aws:kms", "name")),
        (
            {PREFIX: b"aws:kms", KEY_ID: b"arn:aws:kms:r:1:key/name"},
            Encryption("aws:kms", "name"),
        ),
    ],
)
def test_asked_encryption(headers: dict[bytes, bytes], asked: Encryption | None) -> None:
    assert parse_asked(headers) == asked
    if asked is not None:
        assert parse_stored(str(asked)) == asked


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({PREFIX: b"aes256"}, "InvalidArgument"),
        ({PREFIX: b""}, "InvalidArgument"),
        ({PREFIX: b"aws:kms:dsse"}, "NotImplemented"),
        ({KEY_ID: b"name"}, "InvalidArgument"),
        ({PREFIX: b"AES256", KEY_ID: b"name"}, "InvalidArgument"),
        ({PREFIX: b"AES256", **customer()}, "InvalidArgument"),
    ],
)
def test_headers_that_make_no_sense(headers: dict[bytes, bytes], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_asked(headers)
    assert caught.value.code == code


@pytest.mark.parametrize("prefix", [PREFIX, COPY_PREFIX])
def test_customer_key(prefix: bytes) -> None:
    found = parse_customer_key(customer(prefix), secure=True, prefix=prefix)
    assert found == (Encryption("SSE-C", MD5.decode()), KEY)
    assert parse_stored(str(found[0])) == found[0]
    assert parse_customer_key({}, secure=False, prefix=prefix) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"algorithm": b"AES128"}, "InvalidEncryptionAlgorithmError"),
        ({"algorithm": None}, "InvalidArgument"),
        ({"key": None}, "InvalidArgument"),
        ({"key": b"short"}, "InvalidArgument"),
        ({"key": b"!"}, "InvalidArgument"),
        ({"key_md5": None}, "InvalidArgument"),
        ({"key_md5": base64.b64encode(bytes(16))}, "InvalidArgument"),
        ({"key_md5": b"!"}, "InvalidArgument"),
    ],
)
def test_bad_customer_key(changes: dict[str, bytes | None], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_customer_key(customer(**changes), secure=True)
    assert caught.value.code == code


def test_customer_key_over_plain_http_is_refused() -> None:
    with pytest.raises(S3Error) as caught:
        parse_customer_key(customer(), secure=False)
    assert caught.value.code == "InvalidRequest"


def test_no_answer_tells_a_customers_key() -> None:
    shown = dict(Encryption("SSE-C", MD5.decode()).headers())
    assert shown == {
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key-MD5": MD5.decode(),
    }


@pytest.mark.parametrize(
    "setting",
    [
        BucketEncryption(Encryption("AES256")),
        BucketEncryption(Encryption("aws:kms")),
        BucketEncryption(Encryption("aws:kms", "name"), bucket_key=True),
    ],
)
def test_bucket_document_there_and_back(setting: BucketEncryption) -> None:
    assert parse_bucket_encryption(bucket_encryption_xml(setting)) == setting


def test_key_name_of_every_form() -> None:
    for form in ("k", "key/k", "alias/k", "arn:aws:kms:us-east-1:1:alias/k"):
        assert key_name(form) == "k"


RULE = (
    "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>%s"
    "</ApplyServerSideEncryptionByDefault>%s</Rule>%s</ServerSideEncryptionConfiguration>"
)
AES = "<SSEAlgorithm>AES256</SSEAlgorithm>"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("", "MalformedXML"),
        ("<Other/>", "MalformedXML"),
        (
            "<ServerSideEncryptionConfiguration><Rule/></ServerSideEncryptionConfiguration>",
            "MalformedXML",
        ),
        (RULE % ("", "", ""), "MalformedXML"),
        (RULE % ("<SSEAlgorithm>x</SSEAlgorithm>", "", ""), "MalformedXML"),
        (RULE % (AES, "<BucketKeyEnabled>maybe</BucketKeyEnabled>", ""), "MalformedXML"),
        (RULE % (AES, "", "<Rule/>"), "MalformedXML"),
        (RULE % (AES + "<KMSMasterKeyID>k</KMSMasterKeyID>", "", ""), "InvalidArgument"),
        (RULE % ("<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>", "", ""), "NotImplemented"),
    ],
)
def test_bad_bucket_document(document: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_bucket_encryption(document.encode())
    assert caught.value.code == code
