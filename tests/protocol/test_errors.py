"""The table of S3 errors and how they are written."""

from __future__ import annotations

import pytest
from defusedxml import ElementTree

from objectstore_app.core.errors import InvariantError
from objectstore_app.protocol.errors import ERRORS, ErrorSpec, S3Error, _table


def test_a_code_cannot_be_in_the_table_twice() -> None:
    row = ErrorSpec("X", 400, "x")
    with pytest.raises(InvariantError):
        _table([row, row])


def test_every_row_is_complete_and_can_be_written() -> None:
    for code, spec in ERRORS.items():
        assert 300 <= spec.status < 600
        assert spec.message
        fields = {name.replace("-", "_"): "<v>" for name in spec.fields}
        root = ElementTree.fromstring(S3Error(code, **fields).to_xml("/b/k", "id"))
        assert root.findtext("Code") == code
        assert [root.findtext(name) for name in spec.fields] == ["<v>"] * len(spec.fields)


def test_error_document_escapes_what_clients_send() -> None:
    error = S3Error("NoSuchKey", Key=b"a<&\r\x01\xff")
    assert error.status == 404
    assert (
        error.to_xml(b"/b/a<", "R1", "H1")
        == (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
            "<Message>The specified key does not exist.</Message><Key>a&lt;&amp;&#13;��</Key>"
            "<Resource>/b/a&lt;</Resource><RequestId>R1</RequestId><HostId>H1</HostId></Error>"
        ).encode()
    )


def test_unknown_codes_and_fields_are_a_programmers_fault() -> None:
    with pytest.raises(InvariantError):
        S3Error("NoSuchThing")
    with pytest.raises(InvariantError):
        S3Error("NoSuchKey", Colour="red")


def test_server_faults_are_retryable_and_client_faults_are_not() -> None:
    assert S3Error("SlowDown").retryable
    assert not S3Error("NoSuchKey").retryable
