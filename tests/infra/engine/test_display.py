"""What people and machines are shown."""

from __future__ import annotations

import io
import json

from objectstore_infra.engine.display import Display
from objectstore_infra.engine.plugins import Change
from objectstore_infra.engine.state import Resource
from objectstore_infra.engine.values import UNKNOWN, Properties, secret


def _row(**inputs: object) -> Resource:
    row = Resource("urn:pulumi:dev::p::t:i:Thing::a", "t:i:Thing")
    properties: Properties = inputs  # type: ignore[assignment]
    row.inputs = properties
    return row


def test_changes_are_shown_property_by_property_without_secrets() -> None:
    stream = io.StringIO()
    old = _row(size=1, token=secret("old-secret"), tags={"a": [1, 2]}, gone=1)
    new = _row(size=2, token=secret("new-secret"), tags={"a": [1, 3]}, path=UNKNOWN)
    changes = [
        Change("size", "update"),
        Change("token", "update", replaces=True),
        Change("tags.a[1]", "update"),
        Change("gone", "delete"),
        Change("path", "add"),
    ]
    Display(stream, as_json=False, preview=False).begin("replace", new, old, changes)
    shown = [line.strip() for line in stream.getvalue().splitlines()[1:]]
    assert shown == [
        "~ size: 1 => 2",
        '~ token: "[secret]" => "[secret]"  (forces a replacement)',
        "~ tags.a[1]: 2 => 3",
        "- gone: 1",
        '+ path: "[unknown]"',
    ]


def test_a_hidden_text_appears_nowhere_not_even_in_parts_or_escaped() -> None:
    for as_json in (False, True):
        stream = io.StringIO()
        display = Display(stream, as_json=as_json, preview=False)
        display.hide(['-- key "one" --\nsecond line', "key"])
        display.log("info", "", 'said -- key "one" --\nsecond line\nand second line')
        display.fail(_row(), 'because of -- key "one" --')
        display.summary("up failed")
        assert "one" not in stream.getvalue()
        assert "second line" not in stream.getvalue()
        assert stream.getvalue().count("[secret]") >= 4


def test_json_events_name_the_resource() -> None:
    stream = io.StringIO()
    display = Display(stream, as_json=True, preview=False)
    display.begin("create", _row())
    display.end("create", _row())
    display.summary("up done")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["begin", "end", "summary"]
    assert events[0]["urn"] == "urn:pulumi:dev::p::t:i:Thing::a"
    assert events[2]["counts"] == {"create": 1}


def test_debug_lines_are_left_out() -> None:
    stream = io.StringIO()
    Display(stream, as_json=False, preview=False).log("debug", "", "noise")
    assert stream.getvalue() == ""
