"""Opening a shard's view: schemas, versions, PRAGMAs (docs/formats/view.md).

A view is the state that the log's effects add up to, as of `position`. It is disposable: the log
can rebuild it. Its commits are not flushed one by one (`synchronous=NORMAL`): after a power loss it
may be some commits behind, never torn, and the log's tail brings it forward.

Each page of the database ends in a checksum, which SQLite's checksum VFS makes when a checkpoint
writes the page and verifies whenever writer or reader read it: a flipped bit is an error
(`is_damage`), never a wrong answer. The VFS comes with apsw as a loadable extension.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import apsw
import apsw.sqlite_extra
import msgspec

from ..media.errors import CorruptDataError, MediaFailedError
from ..runtime.logging import event
from .api import Attributes
from .pages import checksum_text

_POSITION = """
CREATE TABLE position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
    epoch INTEGER NOT NULL);
INSERT INTO position VALUES (1, 0, 0, 0, 0);
"""

_DATA = """
CREATE TABLE buckets (
    bucket INTEGER PRIMARY KEY, versioning TEXT NOT NULL, closed INTEGER NOT NULL,
    objects INTEGER NOT NULL, versions INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    uploads INTEGER NOT NULL);
CREATE TABLE versions (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, ord INTEGER NOT NULL, version_id TEXT NOT NULL,
    size INTEGER NOT NULL, etag TEXT NOT NULL, modified_ms INTEGER NOT NULL, owner TEXT NOT NULL,
    marker INTEGER NOT NULL, checksum TEXT NOT NULL, attributes BLOB NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (bucket, key, ord)) WITHOUT ROWID;
CREATE TABLE nulls (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, ord INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)) WITHOUT ROWID;
CREATE TABLE uploads (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, upload TEXT NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (bucket, key, upload)) WITHOUT ROWID;
CREATE TABLE parts (
    bucket INTEGER NOT NULL, upload TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL,
    etag TEXT NOT NULL, modified_ms INTEGER NOT NULL, checksums BLOB NOT NULL,
    extents BLOB NOT NULL, coding BLOB NOT NULL DEFAULT x'90',
    PRIMARY KEY (bucket, upload, number)) WITHOUT ROWID;
CREATE TABLE completed (
    sequence INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL,
    upload TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, written BLOB NOT NULL);
CREATE TABLE garbage (
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    blocks INTEGER NOT NULL, freed_ms INTEGER NOT NULL,
    PRIMARY KEY (segment, offset)) WITHOUT ROWID;
"""
_KEY_USE = """
CREATE TABLE key_use (
    key INTEGER PRIMARY KEY, bodies INTEGER NOT NULL, closed INTEGER NOT NULL);
"""
_DATA_1_TO_2 = "ALTER TABLE parts ADD COLUMN coding BLOB NOT NULL DEFAULT x'90';" + _KEY_USE
# Listings tell the checksum's algorithm: it stands before what they do not read.
_DATA_2_TO_3 = """
ALTER TABLE versions RENAME TO versions_2;
CREATE TABLE versions (
    bucket INTEGER NOT NULL, key BLOB NOT NULL, ord INTEGER NOT NULL, version_id TEXT NOT NULL,
    size INTEGER NOT NULL, etag TEXT NOT NULL, modified_ms INTEGER NOT NULL, owner TEXT NOT NULL,
    marker INTEGER NOT NULL, checksum TEXT NOT NULL, attributes BLOB NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (bucket, key, ord)) WITHOUT ROWID;
INSERT INTO versions SELECT bucket, key, ord, version_id, size, etag, modified_ms, owner, marker,
    checksum_text(attributes), attributes, body FROM versions_2;
DROP TABLE versions_2;
"""

_STORE_KEYS = """
CREATE TABLE store_keys (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
"""

_DIRECTORY = """
CREATE TABLE buckets (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, record BLOB NOT NULL);
CREATE INDEX buckets_of_owner ON buckets (owner, name);
CREATE TABLE users (
    id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, record BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE keys (access_key TEXT PRIMARY KEY, user TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX keys_of_user ON keys (user);
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """`version` lies in `user_version`; `migrations[n]` is the SQL that takes n to n + 1."""

    name: str
    version: int
    sql: str
    migrations: Mapping[int, str]


DATA = Schema("data", 3, _POSITION + _DATA + _KEY_USE, {1: _DATA_1_TO_2, 2: _DATA_2_TO_3})
DIRECTORY = Schema("directory", 2, _POSITION + _DIRECTORY + _STORE_KEYS, {1: _STORE_KEYS})

_APPLICATION_ID = 0x4F53544F
_WRITER_CACHE_KIB = 8 * 1024
_READER_CACHE_KIB = 6 * 1024
_CHECKPOINT_PAGES = 4000
_WAL_BYTES_KEPT = 64 * 1024 * 1024
_CHECKSUM_VFS = "cksmvfs"
_CHECKSUM_BYTES = 8


def open_view(path: Path | None, schema: Schema) -> apsw.Connection:
    """Open a view for its writer, making or migrating it; without a path one in memory.

    Raises MediaFailedError, CorruptDataError (damaged, or of a newer release).
    """
    name = str(path) if path else ":memory:"
    try:
        connection = _connect(name, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        connection.execute("PRAGMA page_size=4096")
        _add_checksums(connection)
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES_KEPT}").fetchall()
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.wal_autocheckpoint(_CHECKPOINT_PAGES)
        _migrate(connection, schema, name)
    except apsw.Error as error:
        if is_damage(error):
            raise CorruptDataError(
                "open view", name, f"{error}: `objectstore fsck --rebuild` makes it anew"
            ) from error
        raise MediaFailedError("open view", name, str(error)) from error
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open a view that its writer has made, for reading by one thread at a time. Open it after a
    fork, never before.

    Raises MediaFailedError when there is none yet.
    """
    try:
        # Without SQLite's mutex, which each step and each cell of a row would take.
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOMUTEX
        connection = _connect(str(path), flags)
        connection.execute(f"PRAGMA cache_size=-{_READER_CACHE_KIB}")
        connection.execute("SELECT sequence FROM position").fetchall()
    except apsw.Error as error:
        raise MediaFailedError("open view", str(path), str(error)) from error
    return connection


def read_position(connection: apsw.Connection) -> tuple[int, int, int, int]:
    """`(sequence, segment, offset, epoch)`: up to where the view has applied the log."""
    ((sequence, segment, offset, epoch),) = connection.execute(
        "SELECT sequence, segment, offset, epoch FROM position"
    ).fetchall()
    return sequence, segment, offset, epoch


def write_position(
    view: apsw.Connection | apsw.Cursor, sequence: int, segment: int, offset: int, epoch: int
) -> None:
    view.execute(
        "UPDATE position SET sequence=?, segment=?, offset=?, epoch=?",
        (sequence, segment, offset, epoch),
    )


def open_checkpointer(path: Path) -> apsw.Connection:
    """Open a view to move its write-ahead log beside its writer. Raises apsw.Error."""
    connection = _connect(str(path), apsw.SQLITE_OPEN_READWRITE)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.wal_autocheckpoint(0)
    read_position(connection)
    return connection


def checkpoint(connection: apsw.Connection) -> int:
    """Move the write-ahead log into the database as far as readers allow; how many of its pages
    are moved by now.
    """
    moved: int = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)[1]
    return moved


def is_damage(error: apsw.Error) -> bool:
    """Whether the error says that the view's bytes are not those that were written."""
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return True
    return bool(getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA)


@functools.cache
def _load_checksums() -> None:
    """Register the checksum VFS with this process's SQLite."""
    connection = apsw.Connection(":memory:")
    apsw.sqlite_extra.load(connection, "cksumvfs")
    connection.close()


def _connect(name: str, flags: int) -> apsw.Connection:
    _load_checksums()
    connection = apsw.Connection(name, flags=flags, vfs=_CHECKSUM_VFS)
    connection.set_busy_timeout(5000)
    # Plans must not depend on the values bound: with STAT4 compiled in, SQLite would prepare a
    # point read anew for each key, which costs three times the read.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    return connection


def _add_checksums(connection: apsw.Connection) -> None:
    """Make room for checksums in the pages of a view that is new or of an earlier release."""
    _make_room(connection)
    if connection.execute("PRAGMA checksum_verification").fetchall() == [("0",)]:
        # The room is told by a page 1 that lies in the write-ahead log, where the VFS does not see
        # it: it would let this connection write pages without checksums.
        checkpoint(connection)


def _make_room(connection: apsw.Connection) -> None:
    held = connection.reserve_bytes()
    if held == _CHECKSUM_BYTES:
        return
    connection.reserve_bytes(reserve=_CHECKSUM_BYTES)
    try:
        connection.execute("VACUUM")
    except apsw.FullError:
        # The next start tries again; until then the view is as unchecked as it was.
        connection.reserve_bytes(reserve=held)
        event("view_without_checksums", view=connection.filename, reason="no room to add them")


def _migrate(connection: apsw.Connection, schema: Schema, name: str) -> None:
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version > schema.version:
        raise CorruptDataError(
            "open view", name, f"schema {version} was written by a newer release"
        )
    if version == schema.version:
        return
    with connection:
        if version == 0:
            connection.execute(schema.sql)
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        else:
            connection.create_scalar_function("checksum_text", _checksum_text, 1)
            for step in range(version, schema.version):
                connection.execute(schema.migrations[step])
            connection.create_scalar_function("checksum_text", None)
        connection.execute(f"PRAGMA user_version={schema.version}")


def _checksum_text(attributes: bytes) -> str:
    return checksum_text(msgspec.msgpack.decode(attributes, type=Attributes))
