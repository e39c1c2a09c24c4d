"""Log lines: their form, their batches, and what never gets into them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from objectstore_app.runtime.access_log import (
    FLUSH_LINES,
    AccessLine,
    AccessLog,
    _whole_lines,
)
from objectstore_app.runtime.connection import EmptyBody
from objectstore_app.runtime.context import ServerContext, ServerLimits
from objectstore_app.runtime.http import Request, Response
from objectstore_app.runtime.logging import _Formatter
from objectstore_app.runtime.metrics import Counters


def line(path: bytes, note: dict[str, str] | None = None) -> AccessLine:
    return AccessLine(
        1764000000.5, "0A", "127.0.0.1", "GET", path, 200, 0, 4096, 0.00123, note or {}
    )


def written(form: str, count: int = 1, **note: str) -> list[str]:
    """The lines that `count` requests leave in a pipe."""
    read_end, write_end = os.pipe()

    async def main() -> None:
        access = AccessLog(asyncio.get_running_loop(), write_end, form)
        for _ in range(count):
            access.request(line(b"/b/k k\n", note))
        access.flush()

    # A reader beside the writer: a pipe holds 64 KiB only.
    with ThreadPoolExecutor(1) as pool, os.fdopen(read_end) as file:
        text = pool.submit(file.read)
        asyncio.run(main())
        os.close(write_end)
        return text.result().splitlines()


def test_text_line_quotes_what_needs_it() -> None:
    [shown] = written("text", operation="GetObject", user="a b")
    assert shown.startswith("2025-11-24T16:00:00.500Z request id=0A")
    assert ' request id=0A peer=127.0.0.1 GET "/b/k k\\n" status=200 in=0 out=4096 ms=1.23' in shown
    assert shown.endswith(' operation=GetObject user="a b"')


def test_json_line_is_an_object() -> None:
    [shown] = written("json", operation="GetObject")
    values = json.loads(shown)
    assert (values["event"], values["operation"], values["ms"]) == ("request", "GetObject", 1.23)


@pytest.mark.parametrize("form", ["text", "json"])
def test_query_is_never_logged(form: str) -> None:
    """Presigned URLs carry signatures there."""
    read_end, write_end = os.pipe()

    async def main() -> None:
        access = AccessLog(asyncio.get_running_loop(), write_end, form)
        context = ServerContext(answer, Counters("test"), ServerLimits(), access)
        target = b"/b/k?X-Amz-Signature=secret"
        request = Request("GET", target, {}, EmptyBody(), "0A", False, "127.0.0.1")
        context.finished(request, 200, 0, 0, 0.0)
        access.flush()

    async def answer(_: Request) -> Response:
        return Response(200)

    asyncio.run(main())
    os.close(write_end)
    with os.fdopen(read_end) as file:
        text = file.read()
    assert "/b/k" in text
    assert "secret" not in text


def test_batch_keeps_every_line() -> None:
    assert len(written("text", 3 * FLUSH_LINES // 2)) == 3 * FLUSH_LINES // 2


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
            access.request(line(b"/b/k"))
        access.flush()
        return access.dropped

    try:
        assert asyncio.run(main()) > 0
    finally:
        os.close(read_end)
        os.close(write_end)
