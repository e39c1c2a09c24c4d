"""What large transfers hold: many uploads at once, clients that read slowly or leave, gigabytes.

`OBJECTSTORE_TEST_LARGE_MIB` sets the size of the largest object (default 512, 5120 is the most that
a single PUT takes).
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from objectstore_app.core.limits import BODY_BUFFER_BYTES_MAX, MIB, UPLOAD_MEMORY_BYTES
from objectstore_app.protocol.sigv4_signer import presign
from tests.resident import resident_tree, watched

from .server import Server

LARGE_MIB = int(os.environ.get("OBJECTSTORE_TEST_LARGE_MIB", "512"))
FRONT_ENDS = 2
# What the allocator keeps beyond what is asked of it.
SLACK_BYTES = 40 * MIB
BLOCK = hashlib.shake_256(b"transfer").digest(MIB)


@pytest.fixture(name="start_bytes", autouse=True)
def _start_bytes(server: Server) -> int:
    if not server.pid:
        pytest.skip("the memory of a given endpoint cannot be seen")
    return resident_tree(server.pid)


class Transfer:
    """One connection of a client that is in no hurry to hold anything."""

    def __init__(self, server: Server) -> None:
        host, port = server.host.split(":")
        self._server = server
        self.socket = socket.create_connection((host, int(port)), timeout=120)

    def close(self) -> None:
        self.socket.close()

    def begin(self, method: str, target: str, length: int = 0) -> None:
        signed = presign(
            method,
            target,
            {"host": self._server.host},
            access_key=self._server.root.access_key,
            secret=self._server.root.secret_key,
            region="us-east-1",
            now=time.time(),
        )
        head = f"{method} {signed} HTTP/1.1\r\nHost: {self._server.host}\r\n"
        self.socket.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())

    def head(self) -> tuple[int, int, bytes]:
        """Status, length of the body, and what came of it along with the head."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.socket.recv(65536)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", data[:end])
        return int(data[9:12]), int(length[1]) if length else 0, data[end + 4 :]

    def put(self, target: str, size_mib: int) -> int:
        self.begin("PUT", target, size_mib * MIB)
        for number in range(size_mib):
            self.socket.sendall(block(number))
        return self.head()[0]


def block(number: int) -> bytes:
    return number.to_bytes(4, "big") + BLOCK[4:]


def test_hundred_uploads_at_once_stay_within_the_budget(
    server: Server, bucket: str, start_bytes: int
) -> None:
    def upload(number: int) -> int:
        with closing(Transfer(server)) as transfer:
            return transfer.put(f"/{bucket}/{number}", 20)

    with watched(server.pid) as peak, ThreadPoolExecutor(100) as threads:
        assert list(threads.map(upload, range(100))) == [200] * 100
    # A connection holds at most what it may before it is not read from, and one read more.
    held = FRONT_ENDS * UPLOAD_MEMORY_BYTES + 100 * 2 * BODY_BUFFER_BYTES_MAX
    assert peak.resident - start_bytes < held + FRONT_ENDS * SLACK_BYTES


def test_clients_that_leave_give_back_what_they_held(
    server: Server, bucket: str, start_bytes: int
) -> None:
    for _ in range(2):  # together more than may be under way at once
        transfers = [Transfer(server) for _ in range(100)]
        for number, transfer in enumerate(transfers):
            transfer.begin("PUT", f"/{bucket}/{number}", 20 * MIB)
            transfer.socket.sendall(BLOCK)
        for transfer in transfers:
            transfer.close()
    with closing(Transfer(server)) as transfer:
        assert transfer.put(f"/{bucket}/after", 20) == 200
    assert resident_tree(server.pid) - start_bytes < FRONT_ENDS * SLACK_BYTES


def test_clients_that_do_not_read_cost_next_to_nothing(
    server: Server, bucket: str, start_bytes: int
) -> None:
    with closing(Transfer(server)) as transfer:
        assert transfer.put(f"/{bucket}/k", 64) == 200
    with watched(server.pid) as peak:
        readers = [Transfer(server) for _ in range(40)]
        for reader in readers:
            reader.begin("GET", f"/{bucket}/k")
        heads = [reader.head() for reader in readers]
        assert {(status, length) for status, length, _ in heads} == {(200, 64 * MIB)}
        for reader in readers:
            reader.close()
    assert peak.resident - start_bytes < FRONT_ENDS * SLACK_BYTES


def test_largest_object_goes_both_ways(server: Server, bucket: str, start_bytes: int) -> None:
    with watched(server.pid) as peak, closing(Transfer(server)) as transfer:
        assert transfer.put(f"/{bucket}/k", LARGE_MIB) == 200
        transfer.begin("GET", f"/{bucket}/k")
        status, length, data = transfer.head()
        assert (status, length) == (200, LARGE_MIB * MIB)
        got = bytearray(data)
        for number in range(LARGE_MIB):
            while len(got) < MIB:
                got += transfer.socket.recv(MIB)
            assert got[:MIB] == block(number)
            del got[:MIB]
        assert not got
    assert peak.resident - start_bytes < FRONT_ENDS * (SLACK_BYTES + UPLOAD_MEMORY_BYTES)
