"""Signature Version 4: AWS's published values, botocore as an oracle, and every refusal."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from objectstore_app.protocol import sigv4
from objectstore_app.protocol.errors import S3Error
from objectstore_app.protocol.sigv4 import (
    Anonymous,
    Claim,
    PayloadMode,
    SignedParts,
    signing_key,
    verify,
)
from objectstore_app.protocol.sigv4_core import (
    EMPTY_SHA256,
    canonical_query,
    canonical_request,
    encode_query,
    signed_headers,
)
from objectstore_app.protocol.sigv4_signer import presign, sign_request
from objectstore_app.protocol.target import Query, split_target

# AWS's published example credentials.
KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = calendar.timegm((2013, 5, 24, 0, 0, 0))
HOST = "examplebucket.s3.amazonaws.com"
REGION = "us-east-1"


def parse(
    method: str, target: str, headers: dict[str, str], *, now: float = NOW, region: str = REGION
) -> Claim | Anonymous:
    parts = split_target(target.encode())
    fields = {name.lower().encode(): value.encode() for name, value in headers.items()}
    signed = SignedParts(method, parts, Query(parts.query), fields)
    return sigv4.parse(signed, region=region, now=now)


def check(method: str, target: str, headers: dict[str, str], *, now: float = NOW) -> Claim:
    claim = parse(method, target, headers, now=now)
    assert isinstance(claim, Claim)
    verify(claim, signing_key(SECRET, claim.date, claim.region))
    return claim


def refused(method: str, target: str, headers: dict[str, str], *, now: float = NOW) -> S3Error:
    with pytest.raises(S3Error) as caught:
        check(method, target, headers, now=now)
    return caught.value


def signed(**changes: str) -> dict[str, str]:
    headers = sign_request(
        "GET", "/bkt/k", {"Host": HOST}, access_key=KEY, secret=SECRET, region=REGION, now=NOW
    )
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


PUBLISHED = [
    (
        "GET",
        "/test.txt",
        {"Range": "bytes=0-9"},
        EMPTY_SHA256,
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT",
        "/test%24file.text",
        {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    (
        "GET",
        "/?lifecycle",
        {},
        EMPTY_SHA256,
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    (
        "GET",
        "/?max-keys=2&prefix=J",
        {},
        EMPTY_SHA256,
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
]


@pytest.mark.parametrize(("method", "target", "extra", "payload", "signature"), PUBLISHED)
def test_published_signatures(
    method: str, target: str, extra: dict[str, str], payload: str, signature: str
) -> None:
    headers = sign_request(
        method,
        target,
        {"Host": HOST, **extra},
        access_key=KEY,
        secret=SECRET,
        region=REGION,
        now=NOW,
        payload_hash=payload,
    )
    claim = check(method, target, headers)
    assert claim.signature == signature
    assert claim.access_key == KEY
    assert claim.payload.mode is PayloadMode.SHA256


def test_published_presigned_url() -> None:
    target = presign(
        "GET",
        "/test.txt",
        {"Host": HOST},
        access_key=KEY,
        secret=SECRET,
        region=REGION,
        now=NOW,
        expires_s=86400,
    )
    signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert target.endswith(f"&X-Amz-Signature={signature}")
    claim = check("GET", target, {"host": HOST}, now=NOW + 86400)
    assert claim.presigned
    assert claim.payload.mode is PayloadMode.UNSIGNED


KEYS = st.text(
    st.characters(min_codepoint=1, max_codepoint=0x2FFF, exclude_categories=["Cs"]),
    min_size=1,
    max_size=30,
)
# Names of the signature's own are no others': Hypothesis knows them from the code under test.
QUERIES = st.dictionaries(KEYS.filter(lambda name: not name.startswith("X-Amz-")), KEYS, max_size=4)


def oracle(target: str, headers: dict[str, str]) -> AWSRequest:
    return AWSRequest(method="PUT", url=f"https://{HOST}{target}", headers=headers)


@settings(max_examples=60, deadline=None)
@given(key=KEYS, query=QUERIES, value=st.text("ab \t", max_size=8))
def test_header_signatures_of_botocore_verify(key: str, query: dict[str, str], value: str) -> None:
    target = f"/bkt/{quote(key, safe='/~')}"
    if query:
        target += "?" + "&".join(
            f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in query.items()
        )
    request = oracle(target, {"x-amz-meta-a": value})
    with mock.patch("botocore.auth.get_current_datetime", _now):
        S3SigV4Auth(Credentials(KEY, SECRET), "s3", REGION).add_auth(request)
    headers = {"host": HOST} | {n: v.strip(" \t") for n, v in request.headers.items()}
    claim = check("PUT", target, headers)
    tampered = headers | {"x-amz-meta-a": value.strip() + "x"}
    assert refused("PUT", target, tampered).code == "SignatureDoesNotMatch"
    assert claim.date == "20130524"


@settings(max_examples=40, deadline=None)
@given(key=KEYS, query=QUERIES)
def test_presigned_urls_of_botocore_verify(key: str, query: dict[str, str]) -> None:
    target = f"/bkt/{quote(key, safe='/~')}"
    if query:
        target += "?" + "&".join(
            f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in query.items()
        )
    request = oracle(target, {})
    with mock.patch("botocore.auth.get_current_datetime", _now):
        S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION, expires=60).add_auth(request)
    check("PUT", request.url.removeprefix(f"https://{HOST}"), {"host": HOST})


def _now(remove_tzinfo: bool = True) -> datetime.datetime:
    return datetime.datetime(2013, 5, 24, tzinfo=None if remove_tzinfo else datetime.UTC)


def test_authorization_may_be_written_without_blanks() -> None:
    headers = signed()
    headers["authorization"] = headers["authorization"].replace(", ", ",")
    check("GET", "/bkt/k", headers)


def test_path_is_not_normalised() -> None:
    for target in ("/bkt//a", "/bkt/./a", "/bkt/../a", "/bkt/a/"):
        headers = sign_request(
            "GET", target, {"Host": HOST}, access_key=KEY, secret=SECRET, region=REGION, now=NOW
        )
        check("GET", target, headers)
        assert refused("GET", "/bkt/a", headers).code == "SignatureDoesNotMatch"


def test_the_method_the_query_and_the_payload_are_signed() -> None:
    headers = signed()
    for method, target in (("PUT", "/bkt/k"), ("GET", "/bkt/k?acl"), ("GET", "/bkt/K")):
        assert refused(method, target, headers).code == "SignatureDoesNotMatch"
    error = refused("GET", "/bkt/k", signed(x_amz_content_sha256="UNSIGNED-PAYLOAD"))
    assert error.code == "SignatureDoesNotMatch"
    assert error.fields["AWSAccessKeyId"] == KEY


def test_a_wrong_secret_does_not_match() -> None:
    claim = parse("GET", "/bkt/k", signed())
    assert isinstance(claim, Claim)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify(claim, signing_key(SECRET + "x", claim.date, claim.region))


def test_request_without_credentials_is_anonymous() -> None:
    claim = parse("GET", "/bkt/k?a=b", {"Host": HOST})
    assert isinstance(claim, Anonymous)
    assert claim.payload.mode is PayloadMode.UNSIGNED
    streamed = parse("PUT", "/b/k", {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
    assert streamed.payload.mode is PayloadMode.STREAMING_UNSIGNED_TRAILER
    seedless = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    assert refused("PUT", "/b/k", seedless).code == "AccessDenied"


def edited(edit: Callable[[str], str]) -> dict[str, str]:
    headers = signed()
    headers["authorization"] = edit(headers["authorization"])
    return headers


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda a: "AWS AKID:c2ln", "InvalidRequest"),
        (lambda a: a.replace("HMAC-SHA256", "ECDSA-P256-SHA256"), "NotImplemented"),
        (lambda a: "Basic eHg=", "InvalidArgument"),
        (lambda a: "AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("Credential=", "Cred="), "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("SignedHeaders=", "Headers="), "AuthorizationHeaderMalformed"),
        (lambda a: a[: a.index("Signature=")], "AuthorizationHeaderMalformed"),
        (lambda a: a[:-1], "AuthorizationHeaderMalformed"),
        (lambda a: a + ", Signature=x", "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("/s3/", "/sts/"), "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("aws4_request", "aws4"), "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("20130524", "20130523"), "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("20130524", "2013"), "AuthorizationHeaderMalformed"),
        (lambda a: a.replace(f"{KEY}/", "/"), "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("host;", "host;;"), "AuthorizationHeaderMalformed"),
        (lambda a: a.replace("host;", ""), "AccessDenied"),
        (lambda a: a.replace("host;x-amz-content-sha256", "host"), "AccessDenied"),
    ],
)
def test_bad_authorization_headers(edit: Callable[[str], str], code: str) -> None:
    assert refused("GET", "/bkt/k", edited(edit)).code == code


def test_wrong_region_names_the_right_one() -> None:
    with pytest.raises(S3Error) as caught:
        parse("GET", "/bkt/k", signed(), region="eu-west-1")
    assert caught.value.code == "AuthorizationHeaderMalformed"
    assert caught.value.fields["Region"] == "eu-west-1"


def test_dates() -> None:
    check("GET", "/bkt/k", signed(), now=NOW + 900)
    check("GET", "/bkt/k", signed(), now=NOW - 900)
    for now in (NOW + 901, NOW - 901):
        assert refused("GET", "/bkt/k", signed(), now=now).code == "RequestTimeTooSkewed"
    headers = signed()
    del headers["x-amz-date"]
    assert refused("GET", "/bkt/k", headers).code == "AccessDenied"
    assert refused("GET", "/bkt/k", signed(x_amz_date="yesterday")).code == "AccessDenied"


def test_content_sha256() -> None:
    headers = signed()
    del headers["x-amz-content-sha256"]
    assert refused("GET", "/bkt/k", headers).code == "InvalidRequest"
    for value, code in (
        ("x", "InvalidArgument"),
        ("A" * 64, "InvalidArgument"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
    ):
        assert refused("GET", "/bkt/k", signed(x_amz_content_sha256=value)).code == code
    for mode in PayloadMode:
        if not mode.streaming:
            continue
        headers = sign_request(
            "PUT",
            "/b/k",
            {"Host": HOST},
            access_key=KEY,
            secret=SECRET,
            region=REGION,
            now=NOW,
            payload_hash=mode.value,
        )
        assert check("PUT", "/b/k", headers).payload.mode is mode
        assert mode.trailer is mode.value.endswith("TRAILER")


def test_unsigned_amz_headers_and_tokens_are_refused() -> None:
    error = refused("GET", "/bkt/k", signed(x_amz_acl="public-read"))
    assert (error.code, error.fields["HeadersNotSigned"]) == ("AccessDenied", b"x-amz-acl")
    headers = sign_request(
        "GET",
        "/bkt/k",
        {"Host": HOST, "x-amz-security-token": "t"},
        access_key=KEY,
        secret=SECRET,
        region=REGION,
        now=NOW,
    )
    assert refused("GET", "/bkt/k", headers).code == "InvalidToken"


def presigned(edit: Callable[[str], str] = str, expires_s: int = 60) -> str:
    target = presign(
        "GET",
        "/bkt/k",
        {"Host": HOST},
        access_key=KEY,
        secret=SECRET,
        region=REGION,
        now=NOW,
        expires_s=expires_s,
    )
    return edit(target)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda t: t.replace("X-Amz-Date=", "X-Date="), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("X-Amz-Expires=60&", ""), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("Expires=60", "Expires=-1"), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("Expires=60", "Expires=0"), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("Expires=60", "Expires=1h"), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("Expires=60", "Expires=604801"), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("AWS4-HMAC-SHA256", "AWS3"), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("20130524T", "2013"), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("us-east-1", "moon-1"), "AuthorizationQueryParametersError"),
        (lambda t: t.replace("%2Fs3%2F", "%2Fiam%2F"), "AuthorizationQueryParametersError"),
        (lambda t: t[:-1], "AuthorizationQueryParametersError"),
        (lambda t: t.replace("HMAC-SHA256", "ECDSA-P256-SHA256"), "NotImplemented"),
        (lambda t: t.replace("Expires=60", "Expires=61"), "SignatureDoesNotMatch"),
        (lambda t: t + "&response-content-type=text%2Fhtml", "SignatureDoesNotMatch"),
        (lambda t: t + "&X-Amz-Security-Token=t", "InvalidToken"),
        (lambda t: "/bkt/k?AWSAccessKeyId=a&Signature=s&Expires=1", "InvalidRequest"),
    ],
)
def test_bad_presigned_requests(edit: Callable[[str], str], code: str) -> None:
    assert refused("GET", presigned(edit), {"host": HOST}).code == code


def test_presigned_lifetime() -> None:
    check("GET", presigned(), {"host": HOST}, now=NOW + 60)
    expired = refused("GET", presigned(), {"host": HOST}, now=NOW + 61)
    assert (expired.code, expired.message) == ("AccessDenied", "Request has expired")
    assert expired.fields["X-Amz-Expires"] == 60
    early = refused("GET", presigned(), {"host": HOST}, now=NOW - 901)
    assert (early.code, early.message) == ("AccessDenied", "Request is not yet valid")


def test_presigned_request_with_more_than_was_signed_is_refused() -> None:
    unsigned = {"host": HOST, "x-amz-meta-a": "b"}
    assert refused("GET", presigned(), unsigned).code == "AccessDenied"
    both = {"host": HOST, "authorization": "AWS4-HMAC-SHA256 x"}
    assert refused("GET", presigned(), both).code == "InvalidArgument"
    check("GET", presigned(), {"host": HOST, "content-type": "text/plain"})


@settings(max_examples=150, deadline=None)
@given(st.text("=/,;& \x01AWS4-HMAC-SHA256CredentialSigx%", max_size=120))
def test_no_credentials_crash_the_parser(text: str) -> None:
    header = {"host": HOST, "authorization": text, "x-amz-date": "20130524T000000Z"}
    query = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=" + quote(text)
    assert 400 <= refused("GET", "/b/k", header).status <= 501
    assert 400 <= refused("GET", query, {}).status <= 501


@given(
    st.lists(
        st.sampled_from(
            [
                *(b"&", b"&", b"=", b"a=", b"%", b"+", b"-", b"_", b"*", b"/", b"a", b"Z", b"0"),
                *(b"%2F", b"%2f", b"%2D", b"%41", b"%7E", b"%C3", b"%20", b"X-Amz-Date=1"),
                *(b"X-Amz-Signature=", b"&X-Amz-Signature=0", b"X%2DAmz%2DSignature"),
            ]
        ),
        max_size=12,
    )
)
@example([b"X-Amz-Date=1", b"&"])
@settings(max_examples=1500)
def test_an_encoded_query_is_canonical_by_the_plain_rule_too(pieces: list[bytes]) -> None:
    query = b"".join(pieces)
    try:
        plain = encode_query(query)
    except S3Error:
        with pytest.raises(S3Error):
            canonical_query(query)
        return
    assert canonical_query(query) == plain


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_is_canonical_by_the_plain_rule_too(octet: int) -> None:
    for form in (b"%%%02X" % octet, b"%%%02x" % octet):
        query = b"b=" + form + b"&a-" + form + b"=1&a=2"
        assert canonical_query(query) == encode_query(query)


NAMES = st.from_regex(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,8}", fullmatch=True)
VALUES = st.from_regex(rb"[\t\x20-\x7e\x80-\xff]{0,12}", fullmatch=True).map(
    lambda raw: raw.strip(b" \t")
)


@settings(max_examples=200, deadline=None)
@given(headers=st.dictionaries(NAMES, VALUES, min_size=1, max_size=5), absent=NAMES, key=KEYS)
def test_form_of_signed_headers_gives_what_the_plain_rule_gives(
    headers: dict[bytes, bytes], absent: bytes, key: str
) -> None:
    target = split_target(f"/b/{quote(key)}?a=b&X-Amz-Signature=c".encode())
    names = b";".join([*headers, absent])
    signed = signed_headers(names)
    assert signed is not None
    plain = canonical_request("PUT", target, headers.items(), sorted({*headers, absent}), "hash")
    assert signed.canonical_request("PUT", target, headers, b"hash") == plain


def test_terms_of_one_header_prove_nothing_for_another() -> None:
    """What is remembered of a header is only what stands in it."""
    headers = signed()
    check("GET", "/bkt/k", headers)
    good = headers["authorization"]
    for old, new, code in [
        ("Signature=", "Signature=0", "AuthorizationHeaderMalformed"),
        ("Signature=", "Signatures=", "AuthorizationHeaderMalformed"),
        ("host;", "", "AccessDenied"),
        ("/us-east-1/", "/eu-west-1/", "AuthorizationHeaderMalformed"),
        ("/20130524/", "/20130525/", "AuthorizationHeaderMalformed"),
    ]:
        for _ in range(2):
            assert (
                refused("GET", "/bkt/k", signed(authorization=good.replace(old, new))).code == code
            )
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    assert refused("GET", "/bkt/k", signed(authorization=wrong)).code == "SignatureDoesNotMatch"
    start, _, signature = good.rpartition(", Signature=")
    first = start.replace(" Credential", f" Signature={signature}, Credential")
    check("GET", "/bkt/k", signed(authorization=first))


def test_repeated_headers_are_signed_joined_by_commas() -> None:
    joined = sign_request(
        "GET",
        "/bkt/k",
        {"Host": HOST, "x-amz-meta-a": "1,2"},
        access_key=KEY,
        secret=SECRET,
        region=REGION,
        now=NOW,
    )
    fields = {name.encode(): value.encode() for name, value in joined.items()}
    fields[b"x-amz-meta-a"] = b"1"
    target = split_target(b"/bkt/k")
    repeated = (*fields.items(), (b"x-amz-meta-a", b"2"))
    for pairs, valid in ((repeated, True), (repeated[:-1], False)):
        claim = sigv4.parse(
            SignedParts("GET", target, Query(b""), fields, pairs), region=REGION, now=NOW
        )
        assert isinstance(claim, Claim)
        key = signing_key(SECRET, claim.date, claim.region)
        if valid:
            verify(claim, key)
        else:
            with pytest.raises(S3Error):
                verify(claim, key)
