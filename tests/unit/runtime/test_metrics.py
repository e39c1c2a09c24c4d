"""Counters of several processes, health checks, and the text they are shown as."""

from __future__ import annotations

import asyncio
import json
import os

from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.runtime.health import SystemRoutes
from objectstore_app.runtime.http import Request, Response
from objectstore_app.runtime.metrics import Counters, MetricsBoard, render

from .toy import until


class NoBody:
    length = 0

    async def read(self) -> bytes:
        return b""


def ask(routes: SystemRoutes, target: bytes, method: str = "GET", host: bytes = b"x") -> Response:
    async def application(_request: Request) -> Response:
        return Response(299)

    request = Request(method, target, {b"host": host}, NoBody(), "ID", False, "127.0.0.1")
    return asyncio.run(routes.wrap(application)(request))  # type: ignore[arg-type]


def routes(*, draining: bool = False, broken: str = "", waits: bool = False) -> SystemRoutes:
    async def check() -> None:
        if broken:
            raise ObjectStoreError("ask writer", "shard-000", broken)

    async def begun() -> None:
        if broken == "not begun":
            raise ObjectStoreError("ask writer", "shard-000", broken)

    counters = Counters("front-end")
    counters.count("GetObject", 200, 0.002)
    return SystemRoutes(
        "1.2.3",
        "front-end",
        {"writer": check},
        MetricsBoard(2),
        counters,
        1,
        lambda: draining,
        ("s3.test",),
        entry_checks={"begun": begun},
        waits=lambda: waits,
    )


def test_counts_of_all_processes_are_added_up() -> None:
    board = MetricsBoard(3)
    for slot in (0, 2):
        counters = Counters("front-end")
        counters.count("PutObject", 200, 0.0007)
        counters.count("PutObject", 503, 99.0)
        counters.bytes_in = 10
        board.store(slot, counters)
    text = render(board, "1.2.3").decode()
    assert 'objectstore_http_requests_total{operation="PutObject",status="200"} 2' in text
    assert 'objectstore_http_requests_total{operation="PutObject",status="503"} 2' in text
    assert 'duration_seconds_bucket{operation="PutObject",le="0.0005"} 0' in text
    assert 'duration_seconds_bucket{operation="PutObject",le="0.001"} 2' in text
    assert 'duration_seconds_bucket{operation="PutObject",le="+Inf"} 4' in text
    assert "objectstore_http_request_bytes_total 20" in text
    assert f'objectstore_process_up{{role="front-end",pid="{os.getpid()}"}} 1' in text
    assert 'objectstore_info{version="1.2.3"} 1' in text


def test_restarted_process_goes_on_counting() -> None:
    board = MetricsBoard(1)
    first = board.load(0, "front-end")
    first.count("HeadObject", 404, 0.1)
    first.connections = 5
    board.store(0, first)
    second = board.load(0, "front-end")
    assert second.operations["HeadObject"].statuses == {404: 1}
    assert second.connections == 0


def test_slot_is_seen_by_other_processes() -> None:
    board = MetricsBoard(1)
    pid = os.fork()
    if pid == 0:
        counters = Counters("writer")
        counters.bytes_out = 77
        board.store(0, counters)
        os._exit(0)
    until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
    [(seen, counters)] = board.processes()
    assert (seen, counters.bytes_out) == (pid, 77)
    assert f'objectstore_process_up{{role="writer",pid="{pid}"}} 0' in render(board, "1").decode()


def test_ready_only_when_checks_pass_and_not_draining() -> None:
    ready = ask(routes(), b"/_health/ready")
    assert ready.status == 200
    assert isinstance(ready.body, bytes)
    assert json.loads(ready.body)["status"] == "ready"
    broken = ask(routes(broken="no answer"), b"/_health/ready")
    assert broken.status == 503
    assert isinstance(broken.body, bytes)
    answer = json.loads(broken.body)
    assert answer["checks"]["writer"] == {
        "ok": False,
        "reason": "ask writer: shard-000: no answer",
    }
    assert answer["version"] == "1.2.3"
    assert ask(routes(draining=True), b"/_health/ready").status == 503
    assert ask(routes(draining=True, broken="x"), b"/_health/live").status == 200


def test_entry_is_told_of_a_process_where_requests_would_wait_that_it_is_a_second_choice() -> None:
    mark = ("X-Envoy-Degraded", "true")
    entry = b"/_health/ready?entry"
    assert mark not in ask(routes(), entry).headers
    waiting = ask(routes(broken="no answer", waits=True), entry)
    assert (waiting.status, mark in waiting.headers) == (200, True)
    assert mark not in ask(routes(waits=True), b"/_health/ready").headers
    assert ask(routes(broken="not begun"), entry).status == 503
    assert ask(routes(draining=True), entry).status == 503


def test_metrics_include_what_was_just_counted() -> None:
    answer = ask(routes(), b"/_metrics")
    assert isinstance(answer.body, bytes)
    assert b'requests_total{operation="GetObject",status="200"} 1' in answer.body


def test_system_paths_leave_buckets_alone() -> None:
    assert ask(routes(), b"/_health/other").status == 299
    assert ask(routes(), b"/bucket/_metrics").status == 299
    assert ask(routes(), b"/_metrics", host=b"bucket.s3.test:7200").status == 299
    assert ask(routes(), b"/_metrics", host=b"s3.test:7200").status == 200
    assert ask(routes(), b"/_metrics", method="PUT").status == 405
