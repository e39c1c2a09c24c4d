"""A flipped bit anywhere in a store is an error or is put right; it is never served.

Seeded samples over each kind of file: `OBJECTSTORE_TEST_SEED` repeats one, `OBJECTSTORE_BIT_FLIPS`
sets how many bits are flipped in each.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.media.memory import MemoryStore
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.inventory import TABLES, rows_of
from objectstore_app.metadata_service.view import DATA, is_damage, open_reader, open_view
from tests.engine.support import BUCKET, do, memory_shard, put

FLIPS = int(os.environ.get("OBJECTSTORE_BIT_FLIPS", "150"))
SEED = int(os.environ.get("OBJECTSTORE_TEST_SEED", str(time.time_ns() % 1_000_000)))

Rows = dict[str, list[object]]


def rows(view: apsw.Connection) -> Rows:
    return {table: list(rows_of(view, "data", table)) for table in TABLES["data"]}


@pytest.fixture
def view(tmp_path: Path) -> Path:
    """A view of some dozen pages, with its last commits in the write-ahead log."""
    path = tmp_path / "view.sqlite"
    shard = memory_shard(MemoryStore(), view=path)
    do(shard, OpenBucket(bucket=BUCKET))
    shard.commit([put(b"key %03d" % n, b"x" * (n * 7 % 400)) for n in range(300)])
    shard.close()
    return path


def flips(path: Path, start: int = 0) -> Iterator[str]:
    """Flip one bit after another, each put back before the next; says which."""
    rng = random.Random(SEED)
    content = path.read_bytes()
    for _ in range(FLIPS):
        at, bit = rng.randrange(start, len(content)), rng.randrange(8)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([content[at] ^ 1 << bit]))
        yield f"seed {SEED}: bit {bit} of byte {at} of {path.name}"
        path.write_bytes(content)


def read(open_it: Callable[[], apsw.Connection]) -> Rows | None:
    """All rows, or None where damage was noticed; what else goes wrong rises."""
    try:
        view = open_it()
    except ObjectStoreError:
        return None
    try:
        return rows(view)
    except apsw.Error as error:
        if not is_damage(error):
            raise
        return None
    finally:
        view.close()


def test_flipped_bit_in_a_database_page_is_never_read(view: Path) -> None:
    wanted = read(lambda: open_reader(view))
    assert wanted
    found = []
    for flip in flips(view):
        found.append(read(lambda: open_reader(view)))
        assert found[-1] in (wanted, None), flip
    assert found.count(None) > FLIPS * 3 // 4


def test_flipped_bit_in_a_database_page_is_refused_by_the_writer_or_harmless(
    view: Path, tmp_path: Path
) -> None:
    wanted = read(lambda: open_reader(view))
    copy = tmp_path / "copy.sqlite"
    for flip in flips(view):
        shutil.copy(view, copy)
        assert read(lambda: open_view(copy, DATA)) in (wanted, None), flip


def test_view_of_a_release_without_checksums_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "view.sqlite"
    old = apsw.Connection(str(path), vfs="unix")
    old.execute("PRAGMA journal_mode=WAL").fetchall()
    old.execute(DATA.sql)
    old.execute(f"PRAGMA user_version={DATA.version}")
    old.execute("INSERT INTO nulls VALUES (1, CAST('k' AS BLOB), -5)")
    old.close()
    assert path.read_bytes()[20] == 0
    view = open_view(path, DATA)
    view.close()
    assert path.read_bytes()[20] == 8
    reader = open_reader(path)
    assert reader.execute("SELECT ord FROM nulls").fetchall() == [(-5,)]
    reader.close()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert read(lambda: open_reader(path)) is None
