"""What `objectstore status` makes of the store's pages, and how it shows a deployment."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from objectstore_app.cli import cluster_status
from objectstore_app.cli.cluster_status import Report, shown
from objectstore_app.cli.status import LICENCE_INCLUDED_BYTES, licence, samples, status, summary

METRICS = "".join(f"objectstore_{name} 5\n" for name in (
    "buckets", "objects", "versions", "stored_bytes", "uploads"
))  # fmt: skip
HEALTH: dict[str, object] = {"status": "ready", "version": "1.0.0", "role": "store", "checks": {}}


def report() -> Report:
    return {
        "status": "degraded",
        "machines": [
            {
                "name": "abc-default-0",
                "vcpu": 4,
                "memory_mib": 8192,
                "addresses": ["192.0.2.10"],
                "state": "ready",
                "kubernetes": "v1.34.4",
            }
        ],
        "pods": [
            {"name": "iam-a", "node": "n", "ready": False, "reason": "Pending", "restarts": 2}
        ],
        "shards": [{"shard": "directory", "owners": [], "epoch": 0, "standbys": ["iam-a"]}],
        "pools": {"abc.log": {"stored_bytes": 2**30, "objects": 3, "free_bytes": 2**31}},
        "capacity": {"total_bytes": 2**32, "used_bytes": 2**30},
        "defaults": {"encryption": "AES256", "compression": "none"},
        "degraded": [
            {"node": "cluster", "check": "pods", "found": "iam 0/2", "next_step": "see its log"}
        ],
        "metrics": METRICS,
    }


class Entry(BaseHTTPRequestHandler):
    """The entry of a deployment: it says that it is ready and shows no metrics."""

    def do_GET(self) -> None:
        code, body = (403, b"<Error/>") if self.path == "/_metrics" else (200, self.health())
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def health() -> bytes:
        return json.dumps(HEALTH).encode()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def entry() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Entry) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_an_entry_that_shows_no_metrics_is_ready_all_the_same(entry: str):
    outcome = CliRunner().invoke(status, ["--endpoint", entry, "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.output)["usage"] == {}


def test_a_deployments_figures_come_from_its_machines(entry: str, monkeypatch: pytest.MonkeyPatch):
    well: Report = {**report(), "status": "ready", "degraded": []}
    monkeypatch.setattr(cluster_status, "look", lambda _store: well)
    monkeypatch.setattr(cluster_status, "endpoint", lambda _store: entry)
    outcome = CliRunner().invoke(status, ["--store", "abc", "--json"])
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.output)
    assert found["usage"] == dict.fromkeys(
        ("buckets", "objects", "versions", "size_bytes", "uploads"), 5
    )
    assert "metrics" not in found["cluster"]


def test_two_terabytes_are_included_and_more_is_said():
    assert licence(LICENCE_INCLUDED_BYTES)["over_bytes"] == 0
    assert licence(LICENCE_INCLUDED_BYTES + 5)["over_bytes"] == 5
    assert licence(None)["used_bytes"] is None


@pytest.mark.parametrize(("used", "over"), [(10**12, 0), (3 * 10**12, 10**12)])
def test_the_licence_is_part_of_the_summary(used: int, over: int):
    page = samples(f"objectstore_stored_bytes {used}\n")
    found = summary("http://a", HEALTH, page)["licence"]
    assert found == {
        "included_bytes": LICENCE_INCLUDED_BYTES,
        "used_bytes": used,
        "over_bytes": over,
    }


def test_a_deployment_is_shown_part_by_part_with_next_steps():
    text = shown(report())
    titles = [line for line in text.splitlines() if not line.startswith(" ")]
    assert titles == [
        *("machines", "pods", "shards", "pools"),
        *("capacity", "objects by default", "not well"),
    ]
    assert "directory    NOBODY (epoch 0), followed by iam-a" in text
    assert "1.00 GiB of 4.00 GiB of all disks used" in text
    assert "Pending, 2 restarts" in text
    assert "next step: see its log" in text


def test_nothing_that_is_ill_leaves_its_part_out():
    well = report()
    well["degraded"] = []
    assert "not well" not in shown(well)
