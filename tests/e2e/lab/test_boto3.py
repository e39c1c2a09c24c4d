"""The lab with boto3: buckets, a hundred files, versions of one text file."""

from __future__ import annotations

import secrets

import pytest
from mypy_boto3_s3 import S3Client

from tests.e2e.conftest import Endpoint, Person, s3_client

FILES = 100
FILE_BYTES = 1024


@pytest.fixture
def s3(endpoint: Endpoint, anna: Person) -> S3Client:
    return s3_client(endpoint, anna.keys)


def test_a_created_bucket_is_listed(s3: S3Client, bucket_name: str):
    assert bucket_name not in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    s3.create_bucket(Bucket=bucket_name)
    assert bucket_name in [b["Name"] for b in s3.list_buckets()["Buckets"]]


def test_a_name_that_another_person_uses_is_refused_and_says_so(
    s3: S3Client, bucket: str, endpoint: Endpoint, ben: Person
):
    theirs = s3_client(endpoint, ben.keys)
    with pytest.raises(theirs.exceptions.BucketAlreadyExists):
        theirs.create_bucket(Bucket=bucket)


def test_a_hundred_files_of_one_kib_read_back(s3: S3Client, bucket: str):
    written = {
        f"files/{number:03d}.bin": secrets.token_bytes(FILE_BYTES) for number in range(FILES)
    }
    for key, content in written.items():
        s3.put_object(Bucket=bucket, Key=key, Body=content)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="files/")
    assert [row["Key"] for row in listed["Contents"]] == sorted(written)
    assert {row["Size"] for row in listed["Contents"]} == {FILE_BYTES}
    read = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in written}
    assert read == written


def test_the_first_of_three_versions_can_be_restored(s3: S3Client, bucket: str):
    key = "notes.txt"
    texts = [b"first draft\n", b"second draft\n", b"third draft\n"]
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = [s3.put_object(Bucket=bucket, Key=key, Body=text)["VersionId"] for text in texts]

    versions = s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    assert [row["VersionId"] for row in versions] == ids[::-1], "newest first"
    assert [row["IsLatest"] for row in versions] == [True, False, False]
    dates = [row["LastModified"] for row in versions]
    assert dates == sorted(dates, reverse=True)
    for version, text in zip(ids, texts, strict=True):
        assert s3.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read() == text

    source = {"Bucket": bucket, "Key": key, "VersionId": ids[0]}
    s3.copy_object(Bucket=bucket, Key=key, CopySource=source)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == texts[0]
    assert len(s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]) == len(texts) + 1


def test_a_deleted_text_file_comes_back_when_its_marker_goes(s3: S3Client, bucket: str):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="kept.txt", Body=b"still here")
    marker = s3.delete_object(Bucket=bucket, Key="kept.txt")
    assert marker["DeleteMarker"]
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="kept.txt")
    s3.delete_object(Bucket=bucket, Key="kept.txt", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="kept.txt")["Body"].read() == b"still here"
