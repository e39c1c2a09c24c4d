"""The README keeps its word: `make serve` answers soon, and its example works pasted as it is.

Only the port differs: this machine may have a store of its own on the one that the page names.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3.server import free_port

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1:7200"
START_S_MAX = 3.0
START_LIMIT_S = 30.0
STOP_LIMIT_S = 30.0

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("OBJECTSTORE_TEST_ENDPOINT")), reason="`make serve` is of this machine"
)


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def environment() -> dict[str, str]:
    """As a newcomer has it: nothing of ours and nothing of another store is set."""
    foreign = ("OBJECTSTORE_", "AWS_", "MAKE", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """`make serve` on a free port, ready; its address and what it printed."""
    address = f"127.0.0.1:{free_port()}"
    log = tmp_path / "serve.log"
    command = ["make", "serve", f"DATA={tmp_path / 'data'}", f"LISTEN={address}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_ready(address, process, log)
        yield address, log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(STOP_LIMIT_S)


def wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it says so and it is so: its processes answer a moment before it prints."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if "is ready" in log.read_text(errors="replace") and answers_ready(address):
            return
        time.sleep(0.02)
    pytest.fail(f"`make serve` did not get ready:\n{log.read_text(errors='replace')}")


def answers_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/_health/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def test_the_example_has_three_lines():
    assert len(example().splitlines()) == 3


def test_make_serve_says_what_a_newcomer_needs(served: tuple[str, Path], tmp_path: Path):
    address, log = served
    said = log.read_text()
    assert f"http://{address}" in said
    assert f"https://{address}" in said
    assert str(tmp_path / "data") in said
    assert "developer" in said


def test_the_example_works_pasted_as_it_is(served: tuple[str, Path]):
    address, _ = served
    code = example()
    assert ADDRESS in code
    for _ in range(2):  # whoever tries it tries it again
        done = subprocess.run(
            [sys.executable, "-c", code.replace(ADDRESS, address)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout == "it works\n"


def test_a_store_that_is_installed_answers_within_three_seconds(tmp_path: Path):
    address = f"127.0.0.1:{free_port()}"
    log = tmp_path / "serve.log"
    command = [sys.executable, "-m", "objectstore_app", "serve", "--data", str(tmp_path / "data")]
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--listen", address], env=environment(), stdout=out, stderr=out
        )
    try:
        wait_until_ready(address, process, log)
        assert time.monotonic() - began <= START_S_MAX
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)
