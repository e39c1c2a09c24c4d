"""XML that clients send: documents, bombs and nonsense."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectstore_app.core.limits import XML_BYTES_MAX
from objectstore_app.protocol.acl import ALL_USERS, AccessControlPolicy, Grant, Permission
from objectstore_app.protocol.errors import S3Error
from objectstore_app.protocol.xml_read import (
    XML_ELEMENTS_MAX,
    NamedObject,
    parse_access_control_policy,
    parse_complete_multipart_upload,
    parse_create_bucket,
    parse_delete,
    parse_document,
    parse_versioning,
    unquote_etag,
)

PARSERS: list[Callable[[bytes], object]] = [
    parse_access_control_policy,
    parse_complete_multipart_upload,
    parse_create_bucket,
    parse_delete,
    parse_versioning,
]
NAMESPACE = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def code_of(parser: Callable[[bytes], object], body: bytes) -> str:
    with pytest.raises(S3Error) as caught:
        parser(body)
    return caught.value.code


def test_complete_multipart_upload() -> None:
    body = (
        b'<?xml version="1.0"?>\n<CompleteMultipartUpload %s>\n  <Part><PartNumber>1</PartNumber>'
        b"<ETag>&quot;abc&quot;</ETag><ChecksumCRC32>AAAA</ChecksumCRC32></Part>"
        b'<Part><ETag>"d"</ETag><PartNumber>7</PartNumber></Part></CompleteMultipartUpload>\n'
    ) % NAMESPACE
    first, second = parse_complete_multipart_upload(body)
    assert (first.number, first.etag, first.checksums) == (1, "abc", {"CRC32": "AAAA"})
    assert (second.number, second.etag, second.checksums) == (7, "d", {})


def parts(*numbers: object) -> bytes:
    rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>e</ETag></Part>" for n in numbers)
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (parts(), "MalformedXML"),
        (b"", "MalformedXML"),
        (parts("x"), "MalformedXML"),
        (parts("-1"), "MalformedXML"),
        (parts("١"), "MalformedXML"),
        (parts(0), "InvalidArgument"),
        (parts(10001), "InvalidArgument"),
        (parts(2, 1), "InvalidPartOrder"),
        (parts(1, 1), "InvalidPartOrder"),
        (b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>", "MalformedXML"),
        (b"<CompleteMultipartUpload><Bit/></CompleteMultipartUpload>", "MalformedXML"),
        (parts(1).replace(b"<ETag>e</ETag>", b"<ETag>e</ETag>" * 2), "MalformedXML"),
        (b"<Delete/>", "MalformedXML"),
    ],
)
def test_bad_completions(body: bytes, code: str) -> None:
    assert code_of(parse_complete_multipart_upload, body) == code


def test_ten_thousand_parts() -> None:
    assert len(parse_complete_multipart_upload(parts(*range(1, 10001)))) == 10000


def test_delete() -> None:
    body = (
        "<Delete><Quiet>true</Quiet><Object><Key> a&amp;b&#13;é </Key></Object><Object><Key>c</Key>"
        '<VersionId>v1</VersionId><ETag>"e"</ETag><Size>5</Size>'
        "<LastModifiedTime>Sun, 06 Nov 1994 08:49:37 GMT</LastModifiedTime></Object></Delete>"
    ).encode()
    request = parse_delete(body)
    assert request.quiet
    assert request.objects == [
        NamedObject(" a&b\ré ".encode()),
        NamedObject(b"c", "v1", "e", 5, 784111777),
    ]
    assert not parse_delete(b"<Delete><Object><Key>c</Key></Object></Delete>").quiet


@pytest.mark.parametrize(
    "body",
    [
        b"<Delete/>",
        b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>",
        b"<Delete><Object><Key/></Object></Delete>",
        b"<Delete><Object/></Delete>",
        b"<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>",
        b"<Delete><Object><Key>a</Key><Size>big</Size></Object></Delete>",
        b"<Delete><Object><Key>a</Key><LastModifiedTime>x</LastModifiedTime></Object></Delete>",
        b"<Delete><Object><Key>a&#0;</Key></Object></Delete>",
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        b"<Delete><Object><Key>a</Key></Object></Delete>trailing",
        b"<Delete><Object><Key>a</Key></Object></Delete><Delete/>",
    ],
)
def test_bad_deletes(body: bytes) -> None:
    assert code_of(parse_delete, body) == "MalformedXML"


def test_every_truncation_is_malformed() -> None:
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    for length in range(len(body)):
        assert code_of(parse_delete, body[:length]) == "MalformedXML"


def test_create_bucket() -> None:
    body = b"<CreateBucketConfiguration %s><LocationConstraint> eu-west-1 </LocationConstraint>"
    body = body % NAMESPACE + b"</CreateBucketConfiguration>"
    assert parse_create_bucket(body) == "eu-west-1"
    assert parse_create_bucket(b"") == ""
    assert parse_create_bucket(b"<CreateBucketConfiguration/>") == ""
    assert code_of(parse_create_bucket, b"<Bucket/>") == "MalformedXML"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "IllegalVersioningConfigurationException"),
        (b"<Status>On</Status>", "MalformedXML"),
        (b"<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>", "NotImplemented"),
        (b"<Status>Enabled</Status><MfaDelete>x</MfaDelete>", "MalformedXML"),
    ],
)
def test_bad_versioning(content: bytes, code: str) -> None:
    body = b"<VersioningConfiguration>%s</VersioningConfiguration>" % content
    assert code_of(parse_versioning, body) == code


def test_versioning() -> None:
    for status in ("Enabled", "Suspended"):
        body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
        assert parse_versioning(body.encode()) == status


XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def policy(
    grantee: str, permission: str = "READ", owner: str = "<Owner><ID>me</ID></Owner>"
) -> bytes:
    return (
        f"<AccessControlPolicy>{owner}<AccessControlList><Grant>{grantee}"
        f"<Permission>{permission}</Permission></Grant></AccessControlList></AccessControlPolicy>"
    ).encode()


GROUP = f'<Grantee {XSI} xsi:type="Group"><URI>{ALL_USERS}</URI></Grantee>'


def test_access_control_policy() -> None:
    assert parse_access_control_policy(policy(GROUP)) == AccessControlPolicy(
        "me", (Grant(Permission.READ, group=ALL_USERS),)
    )
    user = f'<Grantee {XSI} xsi:type="CanonicalUser"><ID>me</ID></Grantee>'
    parsed = parse_access_control_policy(policy(user, "FULL_CONTROL"))
    assert parsed.grants == (Grant(Permission.FULL_CONTROL, user="me"),)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<AccessControlPolicy/>", "MalformedACLError"),
        (b"<html/>", "MalformedACLError"),
        (policy(GROUP, "EVERYTHING"), "MalformedACLError"),
        (policy(""), "MalformedACLError"),
        (policy("<Grantee/>"), "MalformedACLError"),
        (policy(GROUP, owner=""), "MalformedACLError"),
        (policy("<Grantee><EmailAddress>a@b</EmailAddress></Grantee>"), "NotImplemented"),
    ],
)
def test_bad_access_control_policies(body: bytes, code: str) -> None:
    assert code_of(parse_access_control_policy, body) == code


LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10) for i in range(1, 10))


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE a [<!ENTITY l0 "ha">%s]><Delete>&l9;</Delete>' % LAUGHS,
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><Delete/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete>&x;</Delete>',
        b"<!DOCTYPE a><Delete/>",
        b"<Delete>&undefined;</Delete>",
        b"<Delete>" * 100_000,
        b"<Delete>" + b"<a/>" * (XML_ELEMENTS_MAX + 1) + b"</Delete>",
        b'<?xml version="1.0" encoding="utf-7"?><Delete/>',
        b'<?xml version="1.0" encoding="no-such"?><Delete/>',
        b"<a:Delete/>",
        b"\x00",
    ],
)
def test_bombs_and_tricks_are_malformed(body: bytes) -> None:
    assert code_of(parse_delete, body) == "MalformedXML"


def test_oversized_documents_are_not_parsed() -> None:
    body = b"<Delete>" + b" " * XML_BYTES_MAX + b"</Delete>"
    assert code_of(parse_delete, body) == "MaxMessageLengthExceeded"


def test_other_encodings_and_namespaces_are_read() -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><x:Delete xmlns:x="y"><x:Q>é</x:Q></x:Delete>'
    assert parse_document(text.encode("utf-16"), "Delete").get("Q") == "é"


def test_etag_quotes() -> None:
    assert [unquote_etag(e) for e in ('"a"', " a ", '"a', '"', '""')] == ["a", "a", '"a', '"', ""]


@settings(max_examples=100, deadline=None)
@given(st.text("<>/&;!DOCTYPE[]=\"' DeleteObjectKey\x01é", max_size=80))
def test_no_text_crashes_a_parser(text: str) -> None:
    for parser in PARSERS:
        with contextlib.suppress(S3Error):
            parser(text.encode())
