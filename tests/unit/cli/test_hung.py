"""Whose connections an Envoy has to end, by what it thinks of the front ends."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from objectstore_app.cli.hung import (
    AGAIN_S,
    CUT_OFF_S,
    HUNG_S,
    AdminError,
    Verdict,
    Watch,
    look,
    verdicts,
)

ONE, TWO = ("10.0.0.1", 7200), ("10.0.0.2", 7200)


def page(**hosts: dict[str, object]) -> dict:
    statuses = [
        {
            "address": {"socket_address": {"address": f"10.0.0.{name[1:]}", "port_value": 7200}},
            "health_status": {"eds_health_status": "HEALTHY", **health},
        }
        for name, health in hosts.items()
    ]
    other = {"name": "other", "host_statuses": statuses[:1]}
    empty = {"name": "store"}
    return {"cluster_statuses": [other, empty, {"name": "store", "host_statuses": statuses}]}


def test_who_answers_no_health_check_hangs_and_who_says_no_refuses():
    failed = {"failed_active_health_check": True}
    told = page(
        n1={},
        n2={**failed, "active_hc_timeout": True},
        n3=failed,
        n4={"active_hc_timeout": True},  # once is no verdict
        n5={**failed, "active_hc_timeout": True, "eds_health_status": "DRAINING"},
        n6={"failed_active_degraded_check": True},
    )
    found = verdicts(told["cluster_statuses"], "store")
    assert list(found.values()) == ["well", "hangs", "refuses", "well", "ends", "waits"]
    assert list(found)[:2] == [ONE, TWO]


def due(watch: Watch, now: float, one: Verdict, two: Verdict = "well") -> list:
    return watch.due({ONE: one, TWO: two}, now)


def test_connections_are_ended_when_it_has_hung_for_a_while_and_again_later():
    watch = Watch()
    assert due(watch, 0, "hangs") == []
    assert due(watch, HUNG_S - 0.1, "hangs") == []
    assert due(watch, HUNG_S, "hangs") == [ONE]
    assert due(watch, HUNG_S + 0.5, "hangs") == []
    assert due(watch, HUNG_S + AGAIN_S, "hangs") == [ONE]


def test_who_was_well_meanwhile_hangs_from_then_on():
    watch = Watch()
    due(watch, 0, "hangs")
    due(watch, 1, "well")
    assert due(watch, HUNG_S, "hangs") == []
    assert due(watch, 2 * HUNG_S, "hangs") == [ONE]


def test_machine_that_hung_and_cannot_be_reached_now_is_no_better():
    watch = Watch()
    due(watch, 0, "hangs")
    assert due(watch, HUNG_S, "refuses") == [ONE]


def test_who_refuses_or_ends_keeps_its_connections():
    for verdict in ("refuses", "ends"):
        watch = Watch()
        assert [due(watch, now, verdict) for now in range(10)] == [[]] * 10
    watch = Watch()
    due(watch, 0, "hangs")
    assert due(watch, HUNG_S, "ends") == []


def test_who_waits_while_others_serve_is_cut_off():
    watch = Watch()
    assert due(watch, 0, "waits") == []
    assert due(watch, CUT_OFF_S, "waits") == [ONE]


def test_who_waits_as_long_as_all_others_did_is_not_cut_off():
    watch = Watch()
    assert [due(watch, now, "waits", "waits") for now in range(10)] == [[]] * 10
    assert due(watch, 10, "waits", "well") == []  # it will hear of it in a moment
    assert due(watch, 10.5, "well", "well") == []
    assert due(watch, 10 + CUT_OFF_S, "waits", "well") == []


def test_nothing_is_ended_while_nobody_is_well():
    watch = Watch()
    assert [due(watch, now, "hangs", "refuses") for now in range(10)] == [[]] * 10
    assert due(watch, 10, "hangs", "well") == [ONE]


def test_envoys_page_is_read_from_its_socket(tmp_path: Path):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/clusters?format=json"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(page(n1={})).encode())

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    with UnixStreamServer(str(tmp_path / "admin"), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert verdicts(look(tmp_path / "admin"), "store") == {ONE: "well"}
        server.shutdown()
    with pytest.raises(AdminError, match="ask Envoy"):
        look(tmp_path / "nobody")
