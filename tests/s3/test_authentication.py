"""Signatures: header, query, skew, wrong secrets, virtual-hosted style, presigned URLs."""

from __future__ import annotations

import http.client
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from mypy_boto3_s3 import S3Client

from .check import refused
from .conftest import make_client
from .raw import Answer, Raw, path_of
from .server import Keys, Server


def fetch(server: Server, method: str, url: str, body: bytes = b"", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(server.host, timeout=30)
    connection.request(method, path_of(url), body or None, headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)


def at_time(when: datetime) -> AbstractContextManager[object]:
    """botocore signs as if it were that time."""
    return mock.patch.object(auth, "get_current_datetime", return_value=when)


def test_wrong_secret_is_signature_does_not_match(server: Server, bucket: str) -> None:
    wrong = make_client(server, Keys(server.root.access_key, "wrong" * 8))
    with refused("SignatureDoesNotMatch", 403):
        wrong.list_objects_v2(Bucket=bucket)
    with refused("SignatureDoesNotMatch", 403):
        wrong.put_object(Bucket=bucket, Key="k", Body=b"x")


def test_unknown_access_key_is_invalid_access_key_id(server: Server, bucket: str) -> None:
    with refused("InvalidAccessKeyId", 403):
        make_client(server, Keys("NOSUCHKEY0000000000A", "x" * 40)).list_buckets()


def test_wrong_region_names_the_right_one(server: Server) -> None:
    raw = Raw(server, server.root)
    headers = raw.signed_headers("GET", "/", b"", {})
    headers["Authorization"] = headers["Authorization"].replace("us-east-1", "eu-central-1")
    answer = Raw(server, None)("GET", "/", headers=headers)
    assert (answer.status, answer.code) == (400, "AuthorizationHeaderMalformed")
    assert b"<Region>us-east-1</Region>" in answer.body


@pytest.mark.parametrize("minutes", [-20, 20])
def test_clock_20_minutes_off_is_refused(raw: Raw, minutes: int) -> None:
    off = datetime.now(UTC) + timedelta(minutes=minutes)
    with at_time(off):
        answer = raw("GET", "/")
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")


def test_unsigned_request_is_denied_and_changes_nothing(
    raw_anonymous: Raw, raw: Raw, bucket: str
) -> None:
    for method, target in (
        ("GET", "/"),
        ("GET", f"/{bucket}"),
        ("PUT", f"/{bucket}/k"),
        ("DELETE", f"/{bucket}"),
        ("POST", f"/{bucket}/k?uploads"),
    ):
        answer = raw_anonymous(method, target, b"x" if method == "PUT" else b"")
        assert (answer.status, answer.code) == (403, "AccessDenied"), target
    assert raw("HEAD", f"/{bucket}/k").status == 404


def test_anonymous_create_bucket_is_denied(raw_anonymous: Raw) -> None:
    answer = raw_anonymous("PUT", "/t-anonymous-bucket")
    assert (answer.status, answer.code) == (403, "AccessDenied")


@pytest.mark.parametrize("value", ["AWS a:b", "AWS4-HMAC-SHA256 nonsense", "Basic eDp5", "x"])
def test_malformed_authorization_is_a_client_error(raw_anonymous: Raw, value: str) -> None:
    answer = raw_anonymous("GET", "/", headers={"Authorization": value})
    assert answer.status == 400
    assert answer.code


def test_presigned_get_and_put(s3: S3Client, server: Server, bucket: str) -> None:
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k +ü"})
    assert fetch(server, "PUT", put, b"body").status == 200
    get = s3.generate_presigned_url(
        "get_object",
        Params={"Bucket": bucket, "Key": "k +ü", "ResponseContentType": "text/x"},
    )
    answer = fetch(server, "GET", get)
    assert (answer.status, answer.body) == (200, b"body")
    assert answer.headers["content-type"] == "text/x"


def test_presigned_url_is_bound_to_method_key_and_query(
    s3: S3Client, server: Server, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    for method, changed in (
        ("DELETE", url),
        ("GET", url.replace("/k?", "/other?")),
        ("GET", url + "&response-content-type=text/html"),
    ):
        answer = fetch(server, method, changed)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


def test_presigned_url_expires(server: Server, bucket: str) -> None:
    request = AWSRequest("GET", f"{server.endpoint}/{bucket}/k")
    keys = Credentials(server.root.access_key, server.root.secret_key)
    with at_time(datetime.now(UTC) - timedelta(hours=2)):
        auth.S3SigV4QueryAuth(keys, "s3", "us-east-1", expires=3600).add_auth(request)
    url = request.url
    answer = fetch(server, "GET", url)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert b"Request has expired" in answer.body


def test_presigned_url_longer_than_a_week_is_refused(
    s3: S3Client, server: Server, bucket: str
) -> None:
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=604_801
    )
    answer = fetch(server, "GET", url)
    assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError")


def test_presigned_request_with_unsigned_amz_headers_is_refused(
    s3: S3Client, server: Server, bucket: str
) -> None:
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k"})
    answer = fetch(server, "PUT", url, b"x", **{"x-amz-acl": "public-read"})
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_virtual_hosted_style(server: Server, raw: Raw, s3: S3Client, bucket: str) -> None:
    if not server.domain:
        pytest.skip("the given endpoint's domain is not known (OBJECTSTORE_TEST_DOMAIN)")
    host = f"{bucket}.{server.domain}"
    assert raw("PUT", "/dir/k", b"x", host=host).status == 200
    assert s3.get_object(Bucket=bucket, Key="dir/k")["Body"].read() == b"x"
    assert raw("GET", "/dir/k", host=f"{host}:7200").body == b"x"
    assert b"<Key>dir/k</Key>" in raw("GET", "/?list-type=2", host=host).body
    assert b"ListAllMyBucketsResult" in raw("GET", "/", host=server.domain).body


def test_connection_stays_usable_after_errors(server: Server, raw: Raw, bucket: str) -> None:
    connection = http.client.HTTPConnection(server.host, timeout=30)
    assert raw("GET", f"/{bucket}/none", connection=connection).status == 404
    assert raw("PUT", f"/{bucket}/k", b"x", connection=connection).status == 200
    assert raw("GET", "/none-such-bucket-0/k", connection=connection).status == 404
    assert raw("GET", f"/{bucket}/k", connection=connection).body == b"x"
    connection.close()
