"""ACLs: canned ones on buckets and objects, and who may do what with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mypy_boto3_s3 import S3Client

from .check import error_code, refused
from .conftest import MakeBucket
from .raw import Raw

BUCKET_ACLS = ["private", "public-read", "public-read-write", "authenticated-read"]
MAY_LIST = {"public-read": "AB", "public-read-write": "AB", "authenticated-read": "A"}
MAY_WRITE = {"public-read-write": "AB"}
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


def outcome(call: Callable[[], object]) -> str:
    return error_code(call) or "ok"


@pytest.mark.parametrize("canned", BUCKET_ACLS)
def test_bucket_acl_decides_listing_and_writing(
    s3: S3Client, alt: S3Client, anonymous: S3Client, make_bucket: MakeBucket, canned: str
) -> None:
    bucket = make_bucket(ACL=canned)
    s3.put_object(Bucket=bucket, Key="mine", Body=b"x")
    for who, client in (("A", alt), ("B", anonymous)):
        listing = outcome(lambda c=client: c.list_objects_v2(Bucket=bucket))
        writing = outcome(lambda c=client: c.put_object(Bucket=bucket, Key="new", Body=b"x"))
        deleting = outcome(lambda c=client: c.delete_object(Bucket=bucket, Key="new"))
        assert listing == ("ok" if who in MAY_LIST.get(canned, "") else "AccessDenied")
        assert writing == ("ok" if who in MAY_WRITE.get(canned, "") else "AccessDenied")
        assert deleting == writing
        assert outcome(lambda c=client: c.get_object(Bucket=bucket, Key="mine")) == "AccessDenied"


@pytest.mark.parametrize("canned", BUCKET_ACLS)
def test_object_acl_decides_reading(
    s3: S3Client, alt: S3Client, anonymous: S3Client, bucket: str, canned: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL=canned)
    for who, client in (("A", alt), ("B", anonymous)):
        reading = outcome(lambda c=client: c.get_object(Bucket=bucket, Key="k"))
        assert reading == ("ok" if who in MAY_LIST.get(canned, "") else "AccessDenied")
        assert outcome(lambda c=client: c.delete_object(Bucket=bucket, Key="k")) == "AccessDenied"


def test_everything_in_anothers_private_bucket_is_denied(
    s3: S3Client, alt: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    calls: list[Callable[[], object]] = [
        lambda: alt.list_objects(Bucket=bucket),
        lambda: alt.list_object_versions(Bucket=bucket),
        lambda: alt.list_multipart_uploads(Bucket=bucket),
        lambda: alt.get_bucket_acl(Bucket=bucket),
        lambda: alt.put_bucket_acl(Bucket=bucket, ACL="public-read"),
        lambda: alt.get_bucket_versioning(Bucket=bucket),
        lambda: alt.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        ),
        lambda: alt.get_bucket_location(Bucket=bucket),
        lambda: alt.get_object(Bucket=bucket, Key="k"),
        lambda: alt.get_object_acl(Bucket=bucket, Key="k"),
        lambda: alt.put_object_acl(Bucket=bucket, Key="k", ACL="public-read"),
        lambda: alt.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize"]),
        lambda: alt.put_object(Bucket=bucket, Key="k", Body=b"y"),
        lambda: alt.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]}),
        lambda: alt.create_multipart_upload(Bucket=bucket, Key="k"),
        lambda: alt.copy_object(Bucket=bucket, Key="k2", CopySource=f"{bucket}/k"),
    ]
    assert [outcome(call) for call in calls] == ["AccessDenied"] * len(calls)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_missing_keys_are_not_told_to_who_may_not_list(
    s3: S3Client, alt: S3Client, bucket: str
) -> None:
    with refused("AccessDenied", 403):
        alt.get_object(Bucket=bucket, Key="missing")
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    with refused("NoSuchKey", 404):
        alt.get_object(Bucket=bucket, Key="missing")


def test_deleted_keys_are_not_told_to_who_may_not_list(
    s3: S3Client, raw: Raw, raw_anonymous: Raw, versioned: str
) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"x", ACL="public-read")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    for query in ("", f"?versionId={marker}"):
        answer = raw_anonymous("HEAD", f"/{versioned}/k{query}")
        assert answer.status == 403
        assert not {"x-amz-delete-marker", "x-amz-version-id"} & set(answer.headers)
    assert raw("HEAD", f"/{versioned}/k").headers["x-amz-delete-marker"] == "true"


def test_canned_acls_show_as_grants(s3: S3Client, bucket: str) -> None:
    me = s3.list_buckets()["Owner"]["ID"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    for policy in (s3.get_object_acl(Bucket=bucket, Key="k"),):
        grants = {
            (grant["Grantee"].get("URI") or grant["Grantee"].get("ID"), grant["Permission"])
            for grant in policy["Grants"]
        }
        assert policy["Owner"]["ID"] == me
        assert grants == {(me, "FULL_CONTROL"), (ALL_USERS, "READ")}
    [only] = s3.get_bucket_acl(Bucket=bucket)["Grants"]
    assert (only["Grantee"]["ID"], only["Permission"]) == (me, "FULL_CONTROL")


def test_put_object_acl_changes_access(s3: S3Client, anonymous: S3Client, versioned: str) -> None:
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"x")["VersionId"]
    s3.put_object_acl(Bucket=versioned, Key="k", ACL="public-read")
    assert anonymous.get_object(Bucket=versioned, Key="k")["Body"].read() == b"x"
    s3.put_object_acl(Bucket=versioned, Key="k", ACL="private", VersionId=version)
    with refused("AccessDenied", 403):
        anonymous.get_object(Bucket=versioned, Key="k")


def test_acl_as_xml_is_taken_when_it_equals_a_canned_one(
    s3: S3Client, anonymous: S3Client, bucket: str
) -> None:
    owner = s3.get_bucket_acl(Bucket=bucket)["Owner"]
    grants = [
        {"Grantee": {"Type": "CanonicalUser", "ID": owner["ID"]}, "Permission": "FULL_CONTROL"},
        {"Grantee": {"Type": "Group", "URI": ALL_USERS}, "Permission": "READ"},
    ]
    policy = {"Owner": owner, "Grants": grants}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    anonymous.list_objects_v2(Bucket=bucket)
    grants[1]["Permission"] = "WRITE_ACP"
    with refused("NotImplemented", 501):
        s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    anonymous.list_objects_v2(Bucket=bucket)


def test_malformed_acls_change_nothing(s3: S3Client, raw: Raw, bucket: str) -> None:
    for body, code in (
        (b"<AccessControlPolicy>", "MalformedACLError"),
        (b"<Other/>", "MalformedACLError"),
        (b"", "MissingSecurityHeader"),
    ):
        answer = raw("PUT", f"/{bucket}?acl", body)
        assert (answer.status, answer.code) == (400, code)
    wrong = raw("PUT", f"/{bucket}?acl", headers={"x-amz-acl": "everyone"})
    assert (wrong.status, wrong.code) == (400, "InvalidArgument")
    assert len(s3.get_bucket_acl(Bucket=bucket)["Grants"]) == 1


def test_grant_headers_are_refused_by_name(raw: Raw, bucket: str) -> None:
    answer = raw("PUT", f"/{bucket}/k", b"x", {"x-amz-grant-read": 'id="abc"'})
    assert (answer.status, answer.code) == (501, "NotImplemented")


def test_bucket_owner_reads_what_others_put_there(
    s3: S3Client, alt: S3Client, anonymous: S3Client, make_bucket: MakeBucket
) -> None:
    bucket = make_bucket(ACL="public-read-write")
    alt.put_object(Bucket=bucket, Key="theirs", Body=b"x")
    anonymous.put_object(Bucket=bucket, Key="anonymous", Body=b"y")
    assert s3.get_object(Bucket=bucket, Key="theirs")["Body"].read() == b"x"
    assert s3.get_object(Bucket=bucket, Key="anonymous")["Body"].read() == b"y"
    assert alt.get_object(Bucket=bucket, Key="theirs")["Body"].read() == b"x"
    with refused("AccessDenied", 403):
        anonymous.get_object(Bucket=bucket, Key="theirs")
    owners = {
        entry["Key"]: entry["Owner"]["ID"] for entry in s3.list_objects(Bucket=bucket)["Contents"]
    }
    assert owners["anonymous"] == s3.list_buckets()["Owner"]["ID"]
    assert owners["theirs"] == alt.list_buckets()["Owner"]["ID"]


def test_another_writer_cannot_touch_an_upload_that_is_not_theirs(
    s3: S3Client, alt: S3Client, anonymous: S3Client, make_bucket: MakeBucket
) -> None:
    bucket = make_bucket(ACL="public-read-write")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    for other in (alt, anonymous):
        with refused("AccessDenied", 403):
            other.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
        with refused("AccessDenied", 403):
            other.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with refused("AccessDenied", 403):
        anonymous.create_multipart_upload(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-server-side-encryption-context": "e30="},
        {"x-amz-object-lock-mode": "GOVERNANCE"},
        {"x-amz-tagging": "a=b"},
    ],
)
def test_what_is_not_built_is_refused_instead_of_ignored(
    raw: Raw, bucket: str, headers: dict[str, str]
) -> None:
    answer = raw("PUT", f"/{bucket}/k", b"x", headers)
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert raw("HEAD", f"/{bucket}/k").status == 404
