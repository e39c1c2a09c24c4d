"""Pieces of a body that lie in files: past the transport, in order, bounded, cut when wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .toy import QUICK, Client, Toy, request, serving, until

SIZE = 5_000_000
SHORT, LONG = 300_000, 3_000_000
pytestmark = pytest.mark.parametrize("range_bytes", [SHORT, LONG])


@pytest.fixture(name="toy")
def _toy(tmp_path: Path, range_bytes: int) -> Iterator[Toy]:
    with serving() as toy:
        yield with_file(toy, tmp_path, SIZE, range_bytes)


def with_file(toy: Toy, folder: Path, size: int, range_bytes: int) -> Toy:
    toy.range_bytes = range_bytes
    toy.file = folder / "file"
    toy.content = random.Random(size).randbytes(size)
    toy.file.write_bytes(toy.content)
    return toy


def test_ranges_of_files_and_bytes_arrive_in_order(toy: Toy) -> None:
    with Client(toy.port) as client:
        for _ in range(3):
            assert client.get("/file").body == toy.content
            assert client.get("/stream/70000").body == b"x" * 70000
    assert toy.closed_streams == 6


def test_pipelined_answers_keep_their_order_around_files(toy: Toy) -> None:
    with Client(toy.port) as client:
        first, file, last = (request("GET", path) for path in ("/stream/10", "/file", "/x"))
        client.send(first + file + file + last)
        assert client.answer().body == b"x" * 10
        assert client.answer().body == toy.content
        assert client.answer().body == toy.content
        assert client.answer().status == 404


def test_slow_reader_is_waited_for_and_gets_all(tmp_path: Path, range_bytes: int) -> None:
    with (
        serving(QUICK) as toy,
        Client(with_file(toy, tmp_path, 30_000_000, range_bytes).port) as client,
    ):
        client.send(request("GET", "/file"))
        until(lambda: toy.ranges_given > 0)
        given = toy.ranges_given
        for _ in range(15):  # longer than the time-out of a stalled writer, but never idle
            time.sleep(0.1)
            client.buffer += client.socket.recv(100_000)
        assert toy.ranges_given - given < 50
        assert client.answer().body == toy.content


def test_reader_that_stops_reading_is_cut_and_lets_go_of_the_file(
    tmp_path: Path, range_bytes: int
) -> None:
    with (
        serving(QUICK) as toy,
        Client(with_file(toy, tmp_path, 30_000_000, range_bytes).port) as client,
    ):
        client.send(request("GET", "/file"))
        until(lambda: toy.closed_streams == 1)
        assert toy.counters.connections == 0


def test_reader_that_leaves_lets_go_of_the_file(tmp_path: Path, range_bytes: int) -> None:
    with serving() as toy:
        with Client(with_file(toy, tmp_path, 30_000_000, range_bytes).port) as client:
            client.send(request("GET", "/file"))
            until(lambda: toy.ranges_given > 0)
        until(lambda: toy.closed_streams == 1)
        until(lambda: toy.counters.connections == 0)


def test_file_that_ends_too_early_cuts_the_connection(tmp_path: Path, range_bytes: int) -> None:
    with serving() as toy, Client(with_file(toy, tmp_path, 30_000_000, range_bytes).port) as client:
        client.send(request("GET", "/file"))
        until(lambda: toy.ranges_given > 0)
        assert toy.file is not None
        with open(toy.file, "r+b") as file:
            file.truncate(20_000_000)
        with pytest.raises((EOFError, ConnectionError)):
            client.answer()
        until(lambda: toy.closed_streams == 1)
