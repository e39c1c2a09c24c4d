"""A disk that is full, and one that gives back other bytes than it was given."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from objectstore_app.core.limits import (
    CHUNKS_FREE_BYTES_MIN,
    KIB,
    LOG_FREE_BYTES_MIN,
    MIB,
    RECORD_BODY_BYTES_MAX,
)

from .client import NAMESPACE, Answer, Client, LostError, path, text
from .ledger import md5
from .store import Store

DISK_BYTES = CHUNKS_FREE_BYTES_MIN + 64 * MIB
FILL_OBJECTS_MAX = 10_000
BUCKET = "disk"
FILE_SYSTEMS = ("tmpfs", "ext4")
# Kept in a row of the view, in the log's record, in a chunk.
SIZES = {"inline": 300, "record": 100 * KIB, "chunk": RECORD_BODY_BYTES_MAX + 50 * KIB}


def pattern(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


# --- a full disk ---


@pytest.fixture(params=FILE_SYSTEMS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, gone afterwards whatever happened."""
    kind: str = request.param
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    needed = ["mount", "umount", *(["mkfs.ext4"] if kind == "ext4" else [])]
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    folder = tmp_path / "disk"
    folder.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    else:
        image = tmp_path / "disk.img"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a {kind} here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Ballast:
    """A file that takes up room on the disk, as another program's might."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"
        self._size = 0

    def leave(self, free_bytes: int) -> None:
        """Grow until only so much is free."""
        with self._file.open("ab") as file:
            for step in (MIB, 64 * KIB, 4 * KIB):
                with contextlib.suppress(OSError):  # no room for one more step
                    while self._free() >= free_bytes + step:
                        os.posix_fallocate(file.fileno(), self._size, step)
                        self._size += step
        assert self._free() < free_bytes + 16 * KIB

    def remove(self) -> None:
        self._file.unlink()

    def _free(self) -> int:
        status = os.statvfs(self._file.parent)
        return status.f_bavail * status.f_frsize


def test_full_disk_refuses_writes_and_serves_reads_until_there_is_room_again(
    disk: Path, tmp_path: Path
) -> None:
    store = Store(disk, tmp_path)
    try:
        store.start()
        client = Client(store.port)
        assert client("PUT", f"/{BUCKET}").status == 200
        held: dict[str, bytes] = {}
        ballast = Ballast(disk)
        ballast.leave(CHUNKS_FREE_BYTES_MIN + 2 * MIB)
        fill(client, held, "chunk")
        ballast.leave(LOG_FREE_BYTES_MIN + 2 * MIB)
        fill(client, held, "record")
        fill(client, held, "inline")
        assert_deletes(client, held)
        client.close()
        store.kill_group()
        store.start()  # the room that is kept is what makes this possible
        client = Client(store.port)
        assert_only_reads(client, held)
        assert_deletes(client, held)
        ballast.leave(0)
        assert_only_reads(client, held)
        assert_refused(client("DELETE", path(BUCKET, next(iter(held)))))
        ballast.remove()
        assert_works_again(client, held)
        assert client.connections_made == 1, "an error closed the connection"
        assert "child_restarts" not in store.text(), "a full disk is no reason to die"
        client.close()
        store.stop()
        store.assert_sound()
        store.start()
        client = Client(store.port)
        assert_holds(client, held)
        client.close()
        store.stop()
    finally:
        store.clean_up()


def test_deletes_and_a_pass_of_atlas_bring_writes_back(disk: Path, tmp_path: Path) -> None:
    store = Store(disk, tmp_path)
    try:
        store.start()
        client = Client(store.port)
        assert client("PUT", f"/{BUCKET}").status == 200
        held: dict[str, bytes] = {}
        Ballast(disk).leave(CHUNKS_FREE_BYTES_MIN + 8 * MIB)
        fill(client, held, "chunk")
        for name in list(held)[:-1]:
            assert client("DELETE", path(BUCKET, name)).status == 204
            del held[name]
        assert_refused(client("PUT", path(BUCKET, "new"), pattern(1, SIZES["chunk"])))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "objectstore_app", "atlas", "run", "--pass", "gc"),
                *("--data", str(store.data), "--atlas-grace", "0", "--json"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        body = held["new"] = pattern(1, SIZES["chunk"])
        assert client("PUT", path(BUCKET, "new"), body).status == 200
        assert_holds(client, held)
        client.close()
        store.stop()
        store.assert_sound()
    finally:
        store.clean_up()


def fill(client: Client, held: dict[str, bytes], kind: str) -> None:
    """Put objects of this kind until they are refused; at least one is taken before, unless none of
    a larger kind was.
    """
    for number in range(FILL_OBJECTS_MAX):
        body = pattern(number, SIZES[kind])
        answer = client("PUT", path(BUCKET, f"{kind}-{number:04d}"), body)
        if answer.status != 200:
            assert_refused(answer)
            assert number > 0 or kind == "inline", "refused too soon"
            return
        held[f"{kind}-{number:04d}"] = body
    raise AssertionError(f"{FILL_OBJECTS_MAX} objects did not fill the disk")


def assert_only_reads(client: Client, held: dict[str, bytes]) -> None:
    """Every write is refused and changes nothing, twice."""
    name = next(iter(held))
    for _ in range(2):
        for kind, size in SIZES.items():
            assert_refused(client("PUT", path(BUCKET, f"new-{kind}"), pattern(99, size)))
            assert_refused(client("PUT", path(BUCKET, name), pattern(99, size)))
        assert_refused(client("POST", f"{path(BUCKET, 'multi')}?uploads"))
        assert_refused(client("PUT", "/another"))
        assert_holds(client, held)


def assert_deletes(client: Client, held: dict[str, bytes]) -> None:
    """What gives room back may use what writes leave."""
    name = next(name for name in held if name.startswith("record"))
    del held[name]
    assert client("DELETE", path(BUCKET, name)).status == 204
    assert_holds(client, held)


def assert_works_again(client: Client, held: dict[str, bytes]) -> None:
    for number, (kind, size) in enumerate(SIZES.items()):
        body = held[f"after-{kind}"] = pattern(number, size)
        assert client("PUT", path(BUCKET, f"after-{kind}"), body).status == 200
    gone = next(iter(held))
    assert client("DELETE", path(BUCKET, gone)).status == 204
    del held[gone]
    assert_holds(client, held)


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.code()) == (507, "InsufficientStorage"), answer


def assert_holds(client: Client, held: dict[str, bytes]) -> None:
    """Exactly these objects, by listing and by reading."""
    listed: dict[str, tuple[str, str]] = {}
    after = ""
    while True:
        page = client("GET", f"/{BUCKET}?list-type=2{after}").xml
        for entry in page.iter(f"{NAMESPACE}Contents"):
            listed[text(entry, "Key")] = (text(entry, "ETag").strip('"'), text(entry, "Size"))
        if text(page, "IsTruncated") != "true":
            break
        after = f"&start-after={list(listed)[-1]}"
    assert listed == {name: (md5(body).hex(), str(len(body))) for name, body in held.items()}
    for name, body in held.items():
        answer = client("GET", path(BUCKET, name))
        assert (answer.status, answer.body == body) == (200, True), f"{name}: {answer.status}"


# --- bytes that changed ---


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.clean_up()


@pytest.mark.parametrize(
    ("where", "size", "at"),
    [
        pytest.param("shard-000", 100 * KIB, 0, id="record"),
        pytest.param("shard-000", 100 * KIB, 100 * KIB - 1, id="end of a record"),
        pytest.param("chunks", 200 * KIB, 10, id="chunk"),
        pytest.param("chunks", 3 * MIB, 3 * MIB - 5, id="end of a chunk"),
        pytest.param("chunks", 9 * MIB, 6 * MIB, id="second chunk"),
    ],
)
def test_a_flipped_bit_is_never_returned_and_fsck_names_its_place(
    store: Store, where: str, size: int, at: int
) -> None:
    body = pattern(size, size)
    other = pattern(1, size)
    client = Client(store.port)
    assert client("PUT", f"/{BUCKET}").status == 200
    for name, data in (("before", other), ("damaged", body), ("after", other)):
        assert client("PUT", path(BUCKET, name), data).status == 200
    store.stop()
    segment, offset = flip_bit(store.data / where, body, at)
    store.start()

    client = Client(store.port)
    assert_never_wrong(client, body, at)
    for name in ("before", "after"):
        answer = client("GET", path(BUCKET, name))
        assert (answer.status, answer.body == other) == (200, True)
    copy = client("PUT", path(BUCKET, "copy"), b"", {"x-amz-copy-source": path(BUCKET, "damaged")})
    assert copy.status == 500, "damage was copied"
    assert client("GET", path(BUCKET, "copy")).status == 404
    client.close()

    store.stop()
    checked = store.fsck()
    assert checked.exit_code == 1
    found = [re.search(r"segment (0x[0-9a-f]+) offset (\d+)", error) for error in checked.errors]
    places = [(int(each[1], 16), int(each[2])) for each in found if each]
    # The place told is where the record or the block begins that the damage is in.
    assert any(
        segment == named and offset - size - 4 * KIB <= start <= offset for named, start in places
    ), checked.errors


def flip_bit(folder: Path, body: bytes, at: int) -> tuple[int, int]:
    """Flip a bit of byte `at` where the body lies; its segment's number and its offset there."""
    start = max(0, at - 16)
    for file in sorted(folder.glob("*.seg")):
        data = file.read_bytes()
        found = data.find(body[start : start + 32])
        if found < 0:
            continue
        offset = found + at - start
        with file.open("r+b") as out:
            out.seek(offset)
            out.write(bytes([data[offset] ^ 0x10]))
        return int.from_bytes(data[16:24], "little"), offset
    raise AssertionError("the object's bytes are in no segment")


def assert_never_wrong(client: Client, body: bytes, at: int) -> None:
    """Whole, in ranges, and as HEAD: what comes is right, and what holds the damage does not."""
    with contextlib.suppress(LostError):  # an answer that was cut off
        whole = client("GET", path(BUCKET, "damaged"))
        assert whole.status == 500, f"{whole.status} with {len(whole.body)} bytes"
        assert whole.code() == "InternalError"
    assert client("HEAD", path(BUCKET, "damaged")).status == 200
    right = 0
    for first in (0, len(body) // 2, at - at % 512, len(body) - 100):
        last = min(first + 511, len(body) - 1)
        with contextlib.suppress(LostError):
            part = client("GET", path(BUCKET, "damaged"), b"", {"Range": f"bytes={first}-{last}"})
            if part.status == 206:
                assert part.body == body[first : last + 1]
                assert not first <= at <= last, "the damage was returned"
                right += 1
            else:
                assert part.status == 500
    # Blocks of a chunk are verified apart, so damage to one does not take the others away.
    assert right > 0 or len(body) <= RECORD_BODY_BYTES_MAX
