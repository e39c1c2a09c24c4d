"""Log lines: their form, their batches, and what never gets into them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from objectstore_app.runtime.logging import AccessLog, _Formatter, _whole_lines


def written(form: str, count: int = 1, **note: str) -> list[str]:
    """The lines that `count` requests leave in a pipe."""
    read_end, write_end = os.pipe()

    async def main() -> None:
        access = AccessLog(asyncio.get_running_loop(), write_end, form)
        for _ in range(count):
            access.request(
                request_id="0A",
                peer="127.0.0.1",
                method="GET",
                target=b"/b/k k\n?X-Amz-Signature=secret",
                status=200,
                bytes_in=0,
                bytes_out=4096,
                seconds=0.00123,
                note=note,
            )
        access.flush()

    # A reader beside the writer: a pipe holds 64 KiB only.
    with ThreadPoolExecutor(1) as pool, os.fdopen(read_end) as file:
        text = pool.submit(file.read)
        asyncio.run(main())
        os.close(write_end)
        return text.result().splitlines()


def test_text_line_quotes_what_needs_it() -> None:
    [line] = written("text", operation="GetObject", user="a b")
    assert ' request id=0A peer=127.0.0.1 GET "/b/k k\\n" status=200 in=0 out=4096 ms=1.23' in line
    assert line.endswith(' operation=GetObject user="a b"')


def test_json_line_is_an_object() -> None:
    [line] = written("json", operation="GetObject")
    values = json.loads(line)
    assert (values["event"], values["operation"], values["ms"]) == ("request", "GetObject", 1.23)


@pytest.mark.parametrize("form", ["text", "json"])
def test_query_is_never_logged(form: str) -> None:
    assert "secret" not in "".join(written(form))


def test_batch_keeps_every_line() -> None:
    assert len(written("text", 300)) == 300


def test_pieces_are_whole_lines() -> None:
    data = b"".join(b"x" * size + b"\n" for size in (10, 50, 5, 200, 30))
    pieces = _whole_lines(data, 64)
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [len(piece) for piece in pieces] == [62, 6, 201, 31]


def test_event_carries_values_and_traceback() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "child_failed", None, None)
    record.values = {"child": "writer-0", "reason": "no room"}
    text = _Formatter("text", "supervisor").format(record)
    assert " child_failed level=error role=supervisor" in text
    assert text.endswith('child=writer-0 reason="no room"')
    assert json.loads(_Formatter("json", "supervisor").format(record))["reason"] == "no room"


def test_full_pipe_drops_lines_and_never_waits() -> None:
    read_end, write_end = os.pipe()

    async def main() -> int:
        access = AccessLog(asyncio.get_running_loop(), write_end, "text")
        for _ in range(5000):
            access.request(
                request_id="0A",
                peer="127.0.0.1",
                method="GET",
                target=b"/b/k",
                status=200,
                bytes_in=0,
                bytes_out=0,
                seconds=0.0,
                note={},
            )
        access.flush()
        return access.dropped

    try:
        assert asyncio.run(main()) > 0
    finally:
        os.close(read_end)
        os.close(write_end)
