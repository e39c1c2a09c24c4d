"""Encryption at rest over the wire: SSE-S3, SSE-KMS with the store's own keys, SSE-C."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .conftest import MakeBucket, make_client
from .raw import Raw
from .server import Server

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

MIB = 1024 * 1024
SIZES = [0, 100, 10_000, 300_000, 3 * MIB + 5]


def body_of(size: int) -> bytes:
    return (b"0123456789abcdef secret " * (size // 24 + 1))[:size]


@pytest.fixture(scope="module")
def kms_key(server: Server) -> str:
    name = f"key-{secrets.token_hex(4)}"
    answer = Raw(server, server.root)(
        "POST", "/_admin/v1/keys", json.dumps({"name": name}).encode()
    )
    assert answer.status == 201, answer.body
    return name


@pytest.fixture(scope="module")
def tls(server: Server) -> S3Client:
    """The same server over TLS, which a customer's key needs."""
    secure = Server(server.endpoint.replace("http://", "https://"), server.root, server.domain)
    return make_client(secure, server.root)


@pytest.mark.parametrize("size", SIZES)
def test_sse_s3_object_reads_back_and_tells_it(s3: S3Client, bucket: str, size: int) -> None:
    body = body_of(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, ServerSideEncryption="AES256")
    assert put["ServerSideEncryption"] == "AES256"
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ServerSideEncryption"], head["ContentLength"]) == ("AES256", size)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ServerSideEncryption"] == "AES256"
    assert got["Body"].read() == body
    if size > 10:
        part = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={size // 2}-{size // 2 + 4}")
        assert part["Body"].read() == body[size // 2 : size // 2 + 5]


def test_sse_kms_uses_the_named_key(s3: S3Client, bucket: str, kms_key: str) -> None:
    put = s3.put_object(
        Bucket=bucket, Key="k", Body=b"x" * 1000, ServerSideEncryption="aws:kms",
        SSEKMSKeyId=kms_key,
    )  # fmt: skip
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", kms_key)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["ServerSideEncryption"], got["SSEKMSKeyId"]) == ("aws:kms", kms_key)
    assert got["Body"].read() == b"x" * 1000


def test_sse_kms_without_a_key_uses_the_stores_own(s3: S3Client, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="aws:kms")
    assert put["SSEKMSKeyId"] == "default"


def test_headers_that_make_no_sense_are_refused(s3: S3Client, bucket: str, kms_key: str) -> None:
    with refused("KMS.NotFoundException", 400):
        s3.put_object(
            Bucket=bucket, Key="k", ServerSideEncryption="aws:kms", SSEKMSKeyId="no-such-key"
        )
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket=bucket, Key="k", SSEKMSKeyId=kms_key)
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket=bucket, Key="k", ServerSideEncryption="AES256", SSEKMSKeyId=kms_key)
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket=bucket, Key="k", ServerSideEncryption="aes:kms")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def test_get_with_an_encryption_header_is_refused(
    server: Server, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="AES256")
    answer = Raw(server, server.root)(
        "GET", f"/{bucket}/k", headers={"x-amz-server-side-encryption": "AES256"}
    )
    assert answer.status == 400


def test_bucket_default_holds_for_what_says_nothing(
    s3: S3Client, bucket: str, kms_key: str
) -> None:
    with refused("ServerSideEncryptionConfigurationNotFoundError", 404):
        s3.get_bucket_encryption(Bucket=bucket)
    for algorithm, key in (("AES256", ""), ("aws:kms", kms_key)):
        default: dict[str, str] = {"SSEAlgorithm": algorithm}
        if key:
            default["KMSMasterKeyID"] = key
        rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bool(key)}
        s3.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={"Rules": [rule]},
        )
        told = s3.get_bucket_encryption(Bucket=bucket)
        assert told["ServerSideEncryptionConfiguration"]["Rules"] == [rule]
        put = s3.put_object(Bucket=bucket, Key="k", Body=b"body")
        assert put["ServerSideEncryption"] == algorithm
        assert put.get("SSEKMSKeyId", "") == key
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
    s3.delete_bucket_encryption(Bucket=bucket)
    with refused("ServerSideEncryptionConfigurationNotFoundError", 404):
        s3.get_bucket_encryption(Bucket=bucket)
    assert "ServerSideEncryption" not in s3.put_object(Bucket=bucket, Key="k", Body=b"body")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("<nonsense/>", "MalformedXML"),
        ("<ServerSideEncryptionConfiguration/>", "MalformedXML"),
        ("RULE:<SSEAlgorithm>none</SSEAlgorithm>", "MalformedXML"),
        ("RULE:", "MalformedXML"),
        (
            "RULE:<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>nope</KMSMasterKeyID>",
            "KMS.NotFoundException",
        ),
        (
            "RULE:<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>",
            "InvalidArgument",
        ),
    ],
)
def test_bad_bucket_encryption_is_refused(
    server: Server, bucket: str, document: str, code: str
) -> None:
    if document.startswith("RULE:"):
        document = (
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
            f"{document[5:]}</ApplyServerSideEncryptionByDefault></Rule>"
            "</ServerSideEncryptionConfiguration>"
        )
    answer = Raw(server, server.root)("PUT", f"/{bucket}?encryption", document.encode())
    assert answer.status == 400
    assert f"<Code>{code}</Code>".encode() in answer.body


def test_only_the_owner_sets_a_default(alt: S3Client, bucket: str) -> None:
    with refused("AccessDenied", 403):
        alt.get_bucket_encryption(Bucket=bucket)
    with refused("AccessDenied", 403):
        alt.delete_bucket_encryption(Bucket=bucket)


def test_multipart_keeps_to_what_it_was_created_with(s3: S3Client, bucket: str) -> None:
    made = s3.create_multipart_upload(Bucket=bucket, Key="k", ServerSideEncryption="AES256")
    assert made["ServerSideEncryption"] == "AES256"
    named = []
    bodies = [body_of(5 * MIB), body_of(5 * MIB + 3)[3:], b"end"]
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(
            Bucket=bucket, Key="k", UploadId=made["UploadId"], PartNumber=number, Body=body
        )
        assert part["ServerSideEncryption"] == "AES256"
        named.append({"PartNumber": number, "ETag": part["ETag"]})
    done = s3.complete_multipart_upload(
        Bucket=bucket,
        Key="k",
        UploadId=made["UploadId"],
        MultipartUpload={"Parts": named},
    )
    assert done["ServerSideEncryption"] == "AES256"
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ServerSideEncryption"] == "AES256"
    assert got["Body"].read() == b"".join(bodies)
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert second["Body"].read() == bodies[1]
    seam = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}")
    assert seam["Body"].read() == b"".join(bodies)[5 * MIB - 2 : 5 * MIB + 2]


def test_copies_are_encrypted_as_they_ask(s3: S3Client, bucket: str, kms_key: str) -> None:
    body = body_of(300_000)
    s3.put_object(Bucket=bucket, Key="a", Body=body, ServerSideEncryption="AES256")
    source = {"Bucket": bucket, "Key": "a"}
    plain = s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
    assert "ServerSideEncryption" not in plain
    copied = s3.copy_object(
        Bucket=bucket, Key="c", CopySource=source, ServerSideEncryption="aws:kms",
        SSEKMSKeyId=kms_key,
    )  # fmt: skip
    assert copied["SSEKMSKeyId"] == kms_key
    s3.copy_object(
        Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "b"},
        ServerSideEncryption="AES256",
    )  # fmt: skip
    assert s3.head_object(Bucket=bucket, Key="b")["ServerSideEncryption"] == "AES256"
    for key in "bc":
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    made = s3.create_multipart_upload(Bucket=bucket, Key="d", ServerSideEncryption="AES256")
    part = s3.upload_part_copy(
        Bucket=bucket, Key="d", UploadId=made["UploadId"], PartNumber=1, CopySource=source,
        CopySourceRange="bytes=10-200009",
    )  # fmt: skip
    s3.complete_multipart_upload(
        Bucket=bucket, Key="d", UploadId=made["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]},
    )  # fmt: skip
    assert s3.get_object(Bucket=bucket, Key="d")["Body"].read() == body[10:200_010]


# --- keys of the client's ---


def customer(key: bytes) -> dict[str, str]:
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key.decode("latin-1")}


CUSTOMER_KEY = b"k" * 32


@pytest.mark.parametrize("size", SIZES)
def test_sse_c_object_needs_its_key(tls: S3Client, bucket: str, size: int) -> None:
    body, mine = body_of(size), customer(CUSTOMER_KEY)
    put = tls.put_object(Bucket=bucket, Key="k", Body=body, **mine)
    assert put["SSECustomerAlgorithm"] == "AES256"
    assert put["SSECustomerKeyMD5"] == base64.b64encode(hashlib.md5(CUSTOMER_KEY).digest()).decode()
    got = tls.get_object(Bucket=bucket, Key="k", **mine)
    assert got["Body"].read() == body
    with refused("InvalidRequest", 400):
        tls.get_object(Bucket=bucket, Key="k")
    with refused("400", 400):
        tls.head_object(Bucket=bucket, Key="k")
    with refused("AccessDenied", 403):
        tls.get_object(Bucket=bucket, Key="k", **customer(b"o" * 32))


def test_sse_c_rules(s3: S3Client, tls: S3Client, server: Server, bucket: str) -> None:
    mine = customer(CUSTOMER_KEY)
    with refused("InvalidRequest", 400):  # not over TLS
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", **mine)
    tls.put_object(Bucket=bucket, Key="plain", Body=b"x")
    with refused("InvalidRequest", 400):
        tls.get_object(Bucket=bucket, Key="plain", **mine)
    with refused("InvalidEncryptionAlgorithmError", 400):
        tls.put_object(
            Bucket=bucket, Key="k", SSECustomerAlgorithm="AES128", SSECustomerKey="k" * 32
        )
    with refused("InvalidArgument", 400):
        tls.put_object(Bucket=bucket, Key="k", **customer(b"short"))
    with refused("InvalidArgument", 400):
        tls.put_object(Bucket=bucket, Key="k", ServerSideEncryption="AES256", **mine)
    with refused("InvalidArgument", 400):
        tls.put_object(Bucket=bucket, Key="k", SSECustomerAlgorithm="AES256")
    with refused("InvalidArgument", 400):
        tls.put_object(
            Bucket=bucket, Key="k", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32,
            SSECustomerKeyMD5=base64.b64encode(bytes(16)).decode(),
        )  # fmt: skip


def test_sse_c_multipart_and_copy(tls: S3Client, bucket: str) -> None:
    mine = customer(CUSTOMER_KEY)
    made = tls.create_multipart_upload(Bucket=bucket, Key="k", **mine)
    body = body_of(5 * MIB)
    with refused("InvalidRequest", 400):
        tls.upload_part(Bucket=bucket, Key="k", UploadId=made["UploadId"], PartNumber=1, Body=body)
    part = tls.upload_part(
        Bucket=bucket,
        Key="k",
        UploadId=made["UploadId"],
        PartNumber=1,
        Body=body,
        **mine,
    )
    tls.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=made["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip
    assert tls.get_object(Bucket=bucket, Key="k", **mine)["Body"].read() == body
    with refused("InvalidRequest", 400):
        tls.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "k"})
    tls.copy_object(
        Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "k"},
        CopySourceSSECustomerAlgorithm="AES256", CopySourceSSECustomerKey="k" * 32,
    )  # fmt: skip
    assert tls.get_object(Bucket=bucket, Key="c")["Body"].read() == body


def test_versions_keep_their_own_encryption(s3: S3Client, make_bucket: MakeBucket) -> None:
    name = make_bucket()
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=name, Key="k", Body=b"one", ServerSideEncryption="AES256")
    second = s3.put_object(Bucket=name, Key="k", Body=b"two")
    told = s3.get_object(Bucket=name, Key="k", VersionId=first["VersionId"])
    assert (told["ServerSideEncryption"], told["Body"].read()) == ("AES256", b"one")
    told = s3.get_object(Bucket=name, Key="k", VersionId=second["VersionId"])
    assert ("ServerSideEncryption" in told, told["Body"].read()) == (False, b"two")
