"""XML that we answer, read back with an ordinary parser and with botocore's."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import RestXMLParser
from defusedxml import ElementTree
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.protocol import xml_write
from objectstore_app.protocol.acl import grants_of
from objectstore_app.protocol.xml_read import parse_access_control_policy
from objectstore_app.protocol.xml_text import escape, url_encode
from objectstore_app.protocol.xml_write import (
    DeletedObject,
    DeleteFailure,
    ListedBucket,
    ListedObject,
    ListedPart,
    ListedUpload,
    ListedVersion,
    Owner,
)

ME = Owner("a" * 64, "Me & <you>")
SERVICE = ServiceModel(Loader().load_service_model("s3", "service-2"))
MS = 1255369830007
WHEN = divmod(MS, 3_600_000)


def parsed(operation: str, body: bytes) -> dict[str, Any]:
    """What boto3 would make of it."""
    shape = SERVICE.operation_model(operation).output_shape
    result: dict[str, Any] = RestXMLParser().parse(
        {"body": body, "headers": {}, "status_code": 200, "context": {}}, shape
    )
    return result


OWNERS = {ME.id: ME}
LISTED: list[ListedObject] = [
    (b"a/<b>&\r\n", *WHEN, "e1", 5, "CRC64NVME", ME.id, 0),
    ("é".encode(), *WHEN, "e2", 0, "", None, 0),
]


def test_list_buckets() -> None:
    body = xml_write.list_buckets(
        ME, [ListedBucket("bkt", MS, "us-east-1")], prefix="b", continuation_token="t"
    )
    result = parsed("ListBuckets", body)
    assert result["Owner"] == {"ID": ME.id, "DisplayName": ME.name}
    (bucket,) = result["Buckets"]
    assert (bucket["Name"], bucket["BucketRegion"]) == ("bkt", "us-east-1")
    assert bucket["CreationDate"].isoformat() == "2009-10-12T17:50:30.007000+00:00"
    assert (result["ContinuationToken"], result["Prefix"]) == ("t", "b")


def test_list_objects() -> None:
    body = xml_write.list_objects(
        "bkt",
        LISTED,
        [b"p/"],
        OWNERS,
        prefix=b"",
        marker=b"m",
        delimiter=b"/",
        max_keys=1000,
        truncated=True,
        next_marker=b"p/",
    )
    result = parsed("ListObjects", body)
    assert [entry["Key"] for entry in result["Contents"]] == ["a/<b>&\r\n", "é"]
    first, second = result["Contents"]
    assert (first["ETag"], first["Size"], first["Owner"]["ID"]) == ('"e1"', 5, ME.id)
    assert (first["ChecksumAlgorithm"], first["ChecksumType"]) == (["CRC64NVME"], "FULL_OBJECT")
    assert "ChecksumAlgorithm" not in second
    assert "Owner" not in second
    assert result["CommonPrefixes"] == [{"Prefix": "p/"}]
    assert (result["Marker"], result["NextMarker"], result["IsTruncated"]) == ("m", "p/", True)


def test_list_objects_v2_encodes_keys_but_not_tokens() -> None:
    body = xml_write.list_objects_v2(
        "bkt",
        [(b"a b\x01\xff+", *WHEN, "e", 1, "", None, 0)],
        [b"p /"],
        {},
        prefix=b"p ",
        delimiter=b"/ ",
        max_keys=2,
        truncated=True,
        start_after=b"s ",
        continuation_token="c d",
        next_continuation_token="e f",
        url=True,
    )
    result = parsed("ListObjectsV2", body)
    assert "Owner" not in result["Contents"][0]
    assert result["Contents"][0]["Key"] == "a%20b%01%FF%2B"
    assert result["CommonPrefixes"] == [{"Prefix": "p%20/"}]
    assert (result["Prefix"], result["Delimiter"], result["StartAfter"]) == ("p%20", "/%20", "s%20")
    assert (result["ContinuationToken"], result["NextContinuationToken"]) == ("c d", "e f")
    assert (result["KeyCount"], result["MaxKeys"], result["EncodingType"]) == (2, 2, "url")


def test_list_versions_keeps_the_order_of_versions_and_markers() -> None:
    versions: list[ListedVersion] = [
        (b"k", "v2", *WHEN, "", 0, "", 1, ME.id, -2),
        (b"k", "v1", *WHEN, "e", 3, "CRC32 COMPOSITE", 0, ME.id, -1),
    ]
    body = xml_write.list_versions(
        "bkt",
        versions,
        [b"p/"],
        OWNERS,
        continued=b"",
        prefix=b"",
        key_marker=b"",
        version_id_marker="",
        delimiter=b"",
        max_keys=2,
        truncated=True,
        next_key_marker=b"k",
        next_version_id_marker="v1",
    )
    result = parsed("ListObjectVersions", body)
    assert result["Versions"][0]["VersionId"] == "v1"
    assert result["DeleteMarkers"][0]["IsLatest"] is True
    assert (result["NextKeyMarker"], result["NextVersionIdMarker"]) == ("k", "v1")
    assert body.index(b"<DeleteMarker>") < body.index(b"<Version>")


def test_list_multipart_uploads() -> None:
    body = xml_write.list_multipart_uploads(
        "bkt",
        [ListedUpload(b"k", "u1", MS, ME, "SHA256", "COMPOSITE")],
        [],
        prefix=b"",
        key_marker=b"",
        upload_id_marker="",
        delimiter=b"",
        max_uploads=1,
        truncated=True,
        next_key_marker=b"k",
        next_upload_id_marker="u1",
    )
    result = parsed("ListMultipartUploads", body)
    assert (result["Uploads"][0]["Key"], result["Uploads"][0]["UploadId"]) == ("k", "u1")
    assert (result["NextKeyMarker"], result["NextUploadIdMarker"]) == ("k", "u1")


def test_list_parts() -> None:
    body = xml_write.list_parts(
        "bkt",
        b"k",
        "u1",
        [ListedPart(3, MS, "e", 9, {"CRC32": "AAAAAA=="})],
        owner=ME,
        part_number_marker=2,
        max_parts=1,
        truncated=True,
        checksum="CRC32",
        checksum_type="COMPOSITE",
    )
    result = parsed("ListParts", body)
    assert result["Parts"][0]["ChecksumCRC32"] == "AAAAAA=="
    assert (result["PartNumberMarker"], result["NextPartNumberMarker"]) == (2, 3)
    assert result["Owner"]["DisplayName"] == ME.name


def test_multipart_results() -> None:
    result = parsed("CreateMultipartUpload", xml_write.initiate_multipart_upload("b", b"k<", "u"))
    assert (result["Bucket"], result["Key"], result["UploadId"]) == ("b", "k<", "u")
    body = xml_write.complete_multipart_upload(
        "http://h/b/k", "b", b"k", "e-2", {"CRC64NVME": "AA"}, "FULL_OBJECT"
    )
    result = parsed("CompleteMultipartUpload", body)
    assert (result["ETag"], result["ChecksumCRC64NVME"]) == ('"e-2"', "AA")
    assert result["ChecksumType"] == "FULL_OBJECT"


@pytest.mark.parametrize(
    "body",
    [
        xml_write.copy_object(MS, "e", {"SHA1": "x"}, "FULL_OBJECT"),
        xml_write.copy_part(MS, "e", {"SHA1": "x"}),
    ],
)
def test_copy_results(body: bytes) -> None:
    root = ElementTree.fromstring(body)
    assert root.findtext("{*}ETag") == '"e"'
    assert root.findtext("{*}ChecksumSHA1") == "x"
    assert root.findtext("{*}LastModified") == "2009-10-12T17:50:30.007Z"


def test_delete_result_and_quiet() -> None:
    deleted = [DeletedObject(b"a"), DeletedObject(b"b", "v1", True, "v2")]
    failed = [DeleteFailure(b"c", "AccessDenied", "No & never", "v9")]
    result = parsed("DeleteObjects", xml_write.delete_result(deleted, failed, quiet=False))
    assert result["Deleted"] == [
        {"Key": "a"},
        {"Key": "b", "VersionId": "v1", "DeleteMarker": True, "DeleteMarkerVersionId": "v2"},
    ]
    assert result["Errors"][0]["Message"] == "No & never"
    assert b"<Deleted>" not in xml_write.delete_result(deleted, failed, quiet=True)


def test_small_bucket_documents() -> None:
    assert xml_write.location_constraint("us-east-1").endswith(b"></LocationConstraint>")
    assert b">eu-west-1<" in xml_write.location_constraint("eu-west-1")
    assert parsed("GetBucketVersioning", xml_write.versioning_configuration("Enabled")) == {
        "Status": "Enabled",
        "ResponseMetadata": {"HTTPHeaders": {}, "HTTPStatusCode": 200},
    }
    assert b"Status" not in xml_write.versioning_configuration("")


def test_access_control_policy_reads_back() -> None:
    grants = grants_of("public-read", ME.id) + grants_of("private", "you")
    body = xml_write.access_control_policy(ME, grants, {"you": "You"}.__getitem__)
    policy = parse_access_control_policy(body)
    assert (policy.owner, set(policy.grants)) == (ME.id, set(grants))
    names = [
        grant["Grantee"].get("DisplayName") for grant in parsed("GetBucketAcl", body)["Grants"]
    ]
    assert names == [None, ME.name, "You"]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_any_key_makes_a_well_formed_document(key: bytes) -> None:
    for url in (False, True):
        body = xml_write.list_objects_v2(
            "b",
            [(key, *WHEN, "e", 1, "", None, 0)],
            [],
            {},
            prefix=key,
            delimiter=b"",
            max_keys=1,
            truncated=False,
            url=url,
        )
        text = ElementTree.fromstring(body).findtext("{*}Contents/{*}Key") or ""
        if url:
            assert unquote(text, errors="surrogateescape").encode(errors="surrogateescape") == key


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")))
def test_legal_text_survives_escaping(text: str) -> None:
    assert (ElementTree.fromstring(f"<a>{escape(text)}</a>").text or "") == text


def test_illegal_characters_are_replaced_and_line_ends_kept() -> None:
    assert escape("a\x00\x1f\ufffe\r\n\t") == "a���&#13;\n\t"
    assert escape(5) == "5"
    assert url_encode(b"a/b c*~\xff") == "a/b%20c*~%FF"
