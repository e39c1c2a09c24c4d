"""What the services promise, seen through the client addresses: objects, people, keys, coding."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from objectstore_app.cli.admin_client import AdminClient, Credentials

PORT = 7200
PART_BYTES = 5 << 20

pytestmark = pytest.mark.promise("S1", "S2", "S3", "S4", "S7", "S8")


def s3_client(store, access_key: str, secret_key: str, address: int = 0):
    return boto3.client(
        "s3",
        endpoint_url=f"http://{store.client_addresses[address]}:{PORT}",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def s3(store):
    return s3_client(store, store.root_access_key, store.root_secret_key)


@pytest.fixture(scope="module")
def admin(store) -> AdminClient:
    return AdminClient(
        f"https://{store.client_addresses[0]}:{PORT}",
        Credentials(store.root_access_key, store.root_secret_key),
        region="us-east-1",
        ca=str(store.folder / "authority" / "clients" / "ca.pem"),
        insecure=False,
    )


@pytest.fixture(scope="module")
def bucket(s3) -> Iterator[str]:
    name = f"validation-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    versions = s3.list_object_versions(Bucket=name)
    for row in versions.get("Versions", []) + versions.get("DeleteMarkers", []):
        s3.delete_object(Bucket=name, Key=row["Key"], VersionId=row["VersionId"])
    s3.delete_bucket(Bucket=name)


def test_what_one_address_takes_every_other_gives_at_once(store, s3, bucket):
    for number in range(len(store.client_addresses)):
        body = f"through address {number}".encode()
        writer = s3_client(store, store.root_access_key, store.root_secret_key, number)
        writer.put_object(Bucket=bucket, Key="shared", Body=body)
        for other in range(len(store.client_addresses)):
            reader = s3_client(store, store.root_access_key, store.root_secret_key, other)
            assert reader.get_object(Bucket=bucket, Key="shared")["Body"].read() == body


def test_a_large_object_comes_back_whole(s3, bucket):
    parts = [os.urandom(PART_BYTES), os.urandom(PART_BYTES), b"the end"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    named = {"Bucket": bucket, "Key": "large", "UploadId": upload}
    sent = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(**named, PartNumber=number, Body=part)["ETag"],
        }
        for number, part in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": sent})
    body = s3.get_object(Bucket=bucket, Key="large")["Body"].read()
    assert hashlib.sha256(body).digest() == hashlib.sha256(b"".join(parts)).digest()


def test_listings_and_versions_show_each_write(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    keys = [f"listed/{number:02}" for number in range(20)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    found = s3.list_objects_v2(Bucket=bucket, Prefix="listed/", MaxKeys=7)
    seen = [row["Key"] for row in found["Contents"]]
    while found["IsTruncated"]:
        found = s3.list_objects_v2(
            Bucket=bucket,
            Prefix="listed/",
            MaxKeys=7,
            ContinuationToken=found["NextContinuationToken"],
        )
        seen += [row["Key"] for row in found["Contents"]]
    assert seen == keys
    s3.put_object(Bucket=bucket, Key=keys[0], Body=b"2")
    versions = s3.list_object_versions(Bucket=bucket, Prefix=keys[0])["Versions"]
    bodies = [
        s3.get_object(Bucket=bucket, Key=keys[0], VersionId=row["VersionId"])["Body"].read()
        for row in versions
    ]
    assert bodies == [b"2", b"1"]


def test_an_encrypted_object_is_said_to_be_and_comes_back(s3, bucket):
    put = s3.put_object(
        Bucket=bucket, Key="sealed", Body=b"s" * 4096, ServerSideEncryption="AES256"
    )
    got = s3.get_object(Bucket=bucket, Key="sealed")
    assert put["ServerSideEncryption"] == got["ServerSideEncryption"] == "AES256"
    assert got["Body"].read() == b"s" * 4096


def test_a_compressed_bucket_gives_what_it_took(s3, admin, bucket):
    admin.call("PATCH", f"/_admin/v1/buckets/{bucket}", {"compression": "zstd"})
    s3.put_object(Bucket=bucket, Key="text", Body=b"again " * 100_000)
    assert s3.get_object(Bucket=bucket, Key="text")["Body"].read() == b"again " * 100_000


def test_a_person_has_what_is_theirs_until_removed(store, admin, bucket):
    email = f"{bucket}@example.com"
    person = admin.call("POST", "/_admin/v1/users", {"email": email, "name": "Validation"})
    theirs = s3_client(store, person["access_key"], person["secret_key"], -1)
    assert theirs.list_buckets()["Buckets"] == []
    with pytest.raises(ClientError, match="AccessDenied"):
        theirs.list_objects_v2(Bucket=bucket)
    admin.call("DELETE", f"/_admin/v1/users/{email}")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        theirs.list_buckets()


def test_a_wrong_signature_is_refused(store, bucket):
    stranger = s3_client(store, store.root_access_key, "x" * 40)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_objects_v2(Bucket=bucket)


def test_what_a_bucket_holds_is_counted_exactly(s3, admin, bucket):
    before = admin.call("GET", f"/_admin/v1/buckets/{bucket}")
    s3.put_object(Bucket=bucket, Key="counted", Body=b"c" * 1000)
    after = admin.call("GET", f"/_admin/v1/buckets/{bucket}")
    assert after["objects"] == before["objects"] + 1
    assert after["size_bytes"] == before["size_bytes"] + 1000
