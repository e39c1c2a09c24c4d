"""Buckets: names, making, listing, removing."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from objectstore_app.media.store import open_store
from objectstore_app.metadata_service.api import CloseBucket
from objectstore_app.metadata_service.client import EmbeddedClient

from .check import refused
from .conftest import MakeBucket, make_client, remove_bucket
from .raw import Raw
from .server import embedded_server


def test_list_buckets_names_own_buckets_with_dates(s3: S3Client, bucket: str) -> None:
    listed = s3.list_buckets()
    assert bucket in [entry["Name"] for entry in listed["Buckets"]]
    assert len(listed["Owner"]["ID"]) == 64
    assert all(entry["CreationDate"] for entry in listed["Buckets"])


def test_list_buckets_pages_with_max_buckets_and_token(
    s3: S3Client, make_bucket: MakeBucket
) -> None:
    mine = sorted(make_bucket() for _ in range(3))
    seen: list[str] = []
    token = ""
    while True:
        page = s3.list_buckets(
            MaxBuckets=2, Prefix="t-", **({"ContinuationToken": token} if token else {})
        )
        assert len(page["Buckets"]) <= 2
        seen += [entry["Name"] for entry in page["Buckets"]]
        token = page.get("ContinuationToken", "")
        if not token:
            break
    assert seen == sorted(set(seen))
    assert set(mine) <= set(seen)


def test_others_buckets_are_not_listed(alt: S3Client, bucket: str) -> None:
    assert bucket not in [entry["Name"] for entry in alt.list_buckets()["Buckets"]]


def test_list_buckets_refuses_anonymous(anonymous: S3Client) -> None:
    with refused("AccessDenied", 403):
        anonymous.list_buckets()


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 64,
        "Upper",
        "under_score",
        "-start",
        "end-",
        "a..b",
        "192.168.5.4",
        "a.-b",
        "xn--a",
    ],
)
def test_create_bucket_refuses_bad_names(raw: Raw, name: str) -> None:
    answer = raw("PUT", f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


@pytest.mark.parametrize("pattern", ["{}", "a.{}.b", "0{}", "a" * 20 + "-{}"])
def test_create_bucket_accepts_good_names(s3: S3Client, pattern: str) -> None:
    name = pattern.format(secrets.token_hex(6))
    s3.create_bucket(Bucket=name)
    s3.head_bucket(Bucket=name)
    s3.delete_bucket(Bucket=name)


def test_create_bucket_answers_its_location(raw: Raw, s3: S3Client) -> None:
    name = f"t-{secrets.token_hex(8)}"
    answer = raw("PUT", f"/{name}")
    assert (answer.status, answer.headers["location"], answer.body) == (200, f"/{name}", b"")
    s3.delete_bucket(Bucket=name)


def test_create_bucket_again_by_its_owner_is_harmless_in_us_east_1(
    s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="kept", Body=b"1")
    assert s3.create_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"1"


def test_create_bucket_of_another_owner_fails_and_says_so(alt: S3Client, bucket: str) -> None:
    with refused("BucketAlreadyExists", 409):
        alt.create_bucket(Bucket=bucket)


def test_create_bucket_refuses_a_foreign_region(raw: Raw) -> None:
    body = (
        b"<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint>"
        b"</CreateBucketConfiguration>"
    )
    answer = raw("PUT", f"/t-{secrets.token_hex(8)}", body)
    assert (answer.status, answer.code) == (400, "InvalidLocationConstraint")


def test_create_bucket_refuses_broken_xml(raw: Raw) -> None:
    answer = raw("PUT", f"/t-{secrets.token_hex(8)}", b"<CreateBucketConfiguration>")
    assert (answer.status, answer.code) == (400, "MalformedXML")


def test_head_bucket_tells_the_region(s3: S3Client, bucket: str) -> None:
    headers = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-bucket-region"] == "us-east-1"


def test_head_of_missing_bucket_is_404_without_body(raw: Raw) -> None:
    answer = raw("HEAD", f"/t-{secrets.token_hex(8)}")
    assert (answer.status, answer.body) == (404, b"")


def test_head_of_another_owners_bucket_is_403(alt: S3Client, bucket: str) -> None:
    with refused("403", 403):
        alt.head_bucket(Bucket=bucket)


def test_get_bucket_location_is_empty_for_us_east_1(s3: S3Client, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None


def test_delete_bucket_refuses_while_objects_exist(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


def test_delete_bucket_refuses_while_only_delete_markers_exist(
    s3: S3Client, versioned: str
) -> None:
    s3.delete_object(Bucket=versioned, Key="a")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=versioned)


def test_deleted_bucket_is_gone_and_its_name_is_free(s3: S3Client, alt: S3Client) -> None:
    name = f"t-{secrets.token_hex(8)}"
    s3.create_bucket(Bucket=name)
    s3.delete_bucket(Bucket=name)
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket=name)
    with refused("NoSuchBucket", 404):
        s3.delete_bucket(Bucket=name)
    alt.create_bucket(Bucket=name)
    with refused("AccessDenied", 403):
        s3.list_objects_v2(Bucket=name)
    remove_bucket(alt, name)


def test_delete_bucket_of_another_owner_is_denied(alt: S3Client, bucket: str) -> None:
    with refused("AccessDenied", 403):
        alt.delete_bucket(Bucket=bucket)


def test_every_operation_on_a_missing_bucket_is_no_such_bucket(s3: S3Client) -> None:
    name = f"t-{secrets.token_hex(8)}"
    with refused("NoSuchBucket", 404):
        s3.put_object(Bucket=name, Key="k", Body=b"1")
    with refused("NoSuchBucket", 404):
        s3.get_object(Bucket=name, Key="k")
    with refused("NoSuchBucket", 404):
        s3.create_multipart_upload(Bucket=name, Key="k")
    with refused("NoSuchBucket", 404):
        s3.get_bucket_versioning(Bucket=name)


def test_expected_bucket_owner_must_be_the_owner(s3: S3Client, bucket: str) -> None:
    me = s3.list_buckets()["Owner"]["ID"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ExpectedBucketOwner=me)
    with refused("AccessDenied", 403):
        s3.get_object(Bucket=bucket, Key="k", ExpectedBucketOwner="0" * 64)
    with refused("AccessDenied", 403):
        s3.copy_object(
            Bucket=bucket,
            Key="copy",
            CopySource=f"{bucket}/k",
            ExpectedSourceBucketOwner="0" * 64,
        )


def test_operations_not_built_yet_say_so(s3: S3Client, bucket: str) -> None:
    with refused("NotImplemented", 501):
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})


@pytest.mark.parametrize(
    ("read", "code"),
    [
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_ownership_controls", "OwnershipControlsNotFoundError"),
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
    ],
)
def test_a_configuration_that_was_never_set_is_not_found(
    s3: S3Client, alt: S3Client, bucket: str, read: str, code: str
) -> None:
    with refused(code, 404):
        getattr(s3, read)(Bucket=bucket)
    with refused("AccessDenied", 403):
        getattr(alt, read)(Bucket=bucket)


def test_a_deletion_cut_short_does_not_block_the_name(tmp_path: Path) -> None:
    """A front end that died between the halves left the name taken and the bucket closed."""

    async def close_only(name: str) -> None:
        client = EmbeddedClient(open_store(tmp_path / "data", create=False))
        found = await client.bucket(name)
        assert found is not None
        await client.mutate(found, CloseBucket(bucket=found.id))
        await client.close()

    with embedded_server(tmp_path) as own:
        s3 = make_client(own, own.root)
        s3.create_bucket(Bucket="half-gone")
        asyncio.run(close_only("half-gone"))
        with refused("OperationAborted", 409):
            s3.create_bucket(Bucket="half-gone")
        s3.create_bucket(Bucket="half-gone")
        s3.put_object(Bucket="half-gone", Key="k", Body=b"x")
