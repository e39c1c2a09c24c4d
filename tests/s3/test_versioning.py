"""Versioning: states, versions, delete markers, listing versions."""

from __future__ import annotations

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .raw import Raw


def versions_of(s3: S3Client, bucket: str, **arguments: object) -> list[tuple[str, str, bool]]:
    page = s3.list_object_versions(Bucket=bucket, **arguments)
    return [(v["Key"], v["VersionId"], v["IsLatest"]) for v in page.get("Versions", [])]


def suspend(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def test_versioning_is_unset_enabled_suspended(s3: S3Client, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for status in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status


def test_versioning_refuses_unknown_status(raw: Raw, bucket: str) -> None:
    body = b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>"
    answer = raw("PUT", f"/{bucket}?versioning", body)
    assert (answer.status, answer.code) == (400, "MalformedXML")


def test_every_overwrite_keeps_the_old_version(s3: S3Client, versioned: str) -> None:
    ids = [
        s3.put_object(Bucket=versioned, Key="k", Body=str(n).encode())["VersionId"]
        for n in range(3)
    ]
    assert len(set(ids)) == 3
    for number, version in enumerate(ids):
        got = s3.get_object(Bucket=versioned, Key="k", VersionId=version)
        assert (got["Body"].read(), got["VersionId"]) == (str(number).encode(), version)
    assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == ids[-1]
    assert versions_of(s3, versioned) == [
        ("k", ids[2], True),
        ("k", ids[1], False),
        ("k", ids[0], False),
    ]


def test_restoring_a_version_is_copying_it(s3: S3Client, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"2")
    copied = s3.copy_object(
        Bucket=versioned,
        Key="k",
        CopySource={"Bucket": versioned, "Key": "k", "VersionId": first},
    )
    assert copied["CopySourceVersionId"] == first
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"1"
    assert len(versions_of(s3, versioned)) == 3


def test_objects_from_before_have_the_null_version(s3: S3Client, bucket: str) -> None:
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    new = s3.put_object(Bucket=bucket, Key="k", Body=b"new")["VersionId"]
    assert versions_of(s3, bucket) == [("k", new, True), ("k", "null", False)]
    got = s3.get_object(Bucket=bucket, Key="k", VersionId="null")
    assert (got["Body"].read(), got["VersionId"]) == (b"old", "null")


def test_delete_makes_a_marker_and_the_object_reads_as_gone(
    s3: S3Client, raw: Raw, versioned: str
) -> None:
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert deleted["DeleteMarker"] is True
    marker = deleted["VersionId"]
    for method in ("GET", "HEAD"):
        answer = raw(method, f"/{versioned}/k")
        assert answer.status == 404
        assert answer.headers["x-amz-delete-marker"] == "true"
        assert answer.headers["x-amz-version-id"] == marker
        named = raw(method, f"/{versioned}/k?versionId={marker}")
        assert named.status == 405
        assert named.headers["x-amz-delete-marker"] == "true"
        assert named.headers["last-modified"]
    assert raw("GET", f"/{versioned}/k?versionId={marker}").code == "MethodNotAllowed"
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=version)["Body"].read() == b"1"


def test_removing_the_marker_brings_the_object_back(s3: S3Client, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    removed = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (removed["DeleteMarker"], removed["VersionId"]) == (True, marker)
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"1"


def test_removing_a_version_is_for_good(s3: S3Client, versioned: str) -> None:
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=versioned, Key="k", Body=b"2")["VersionId"]
    s3.delete_object(Bucket=versioned, Key="k", VersionId=second)
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"1"
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=versioned, Key="k", VersionId=second)
    answer = s3.delete_object(Bucket=versioned, Key="k", VersionId=second)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert versions_of(s3, versioned) == [("k", first, True)]


def test_delete_of_a_missing_key_makes_a_marker(s3: S3Client, versioned: str) -> None:
    assert s3.delete_object(Bucket=versioned, Key="none")["DeleteMarker"] is True
    markers = s3.list_object_versions(Bucket=versioned)["DeleteMarkers"]
    assert [(marker["Key"], marker["IsLatest"]) for marker in markers] == [("none", True)]


def test_suspended_bucket_replaces_only_the_null_version(s3: S3Client, versioned: str) -> None:
    kept = s3.put_object(Bucket=versioned, Key="k", Body=b"kept")["VersionId"]
    suspend(s3, versioned)
    for body in (b"a", b"b"):
        assert "VersionId" not in s3.put_object(Bucket=versioned, Key="k", Body=body)
    assert versions_of(s3, versioned) == [("k", "null", True), ("k", kept, False)]
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"b"


def test_delete_in_a_suspended_bucket_leaves_a_null_marker(s3: S3Client, versioned: str) -> None:
    kept = s3.put_object(Bucket=versioned, Key="k", Body=b"kept")["VersionId"]
    suspend(s3, versioned)
    s3.put_object(Bucket=versioned, Key="k", Body=b"null")
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    page = s3.list_object_versions(Bucket=versioned)
    assert [v["VersionId"] for v in page["Versions"]] == [kept]
    assert [m["VersionId"] for m in page["DeleteMarkers"]] == ["null"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_version_pages_cover_everything_once(s3: S3Client, versioned: str, size: int) -> None:
    for number in range(3):
        for key in ("a", "b/1", "b/2", "c"):
            s3.put_object(Bucket=versioned, Key=key, Body=str(number).encode())
    s3.delete_object(Bucket=versioned, Key="a")
    seen: list[tuple[str, str]] = []
    markers: dict[str, str] = {}
    while True:
        page = s3.list_object_versions(Bucket=versioned, MaxKeys=size, **markers)
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        assert len(found) <= size
        seen += [(entry["Key"], entry["VersionId"]) for entry in found]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"]}
        if "NextVersionIdMarker" in page:
            markers["VersionIdMarker"] = page["NextVersionIdMarker"]
    assert len(seen) == len(set(seen)) == 13


def test_version_listing_groups_by_delimiter(s3: S3Client, versioned: str) -> None:
    for key in ("a/1", "a/2", "b"):
        for body in (b"1", b"2"):
            s3.put_object(Bucket=versioned, Key=key, Body=body)
    page = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["a/"]
    assert [entry["Key"] for entry in page["Versions"]] == ["b", "b"]


def test_empty_version_id_is_invalid_and_unknown_ones_are_missing(
    s3: S3Client, raw: Raw, versioned: str
) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"1")
    empty = raw("GET", f"/{versioned}/k?versionId=")
    assert (empty.status, empty.code) == (400, "InvalidArgument")
    assert raw("GET", f"/{versioned}/k?versionId=nonsense").status in (400, 404)


def test_delete_objects_in_a_versioned_bucket_tells_markers(s3: S3Client, versioned: str) -> None:
    version = s3.put_object(Bucket=versioned, Key="a", Body=b"1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="b", Body=b"1")
    answer = s3.delete_objects(
        Bucket=versioned, Delete={"Objects": [{"Key": "a", "VersionId": version}, {"Key": "b"}]}
    )
    told = {entry["Key"]: entry for entry in answer["Deleted"]}
    assert told["a"]["VersionId"] == version
    assert told["b"]["DeleteMarker"] is True
    assert told["b"]["DeleteMarkerVersionId"]
