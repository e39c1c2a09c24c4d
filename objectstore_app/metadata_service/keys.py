"""How many data keys each version of a store key wraps in this shard, exactly.

The counts change in the transactions that change the bodies, so that a version which wraps nothing
can be closed for good: the writer then refuses bodies that a front end encrypted under it before it
learnt of the rotation. Rows are kept in memory and written back by `flush`, as buckets' rows are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import apsw
import msgspec

from ..core.ids import BucketId
from .api import Body, Coding, Rewrapped
from .errors import StoreKeyClosedError, StoreKeyInUseError

_decode_body = msgspec.msgpack.Decoder(Body).decode


@dataclass(slots=True)
class _KeyRow:
    bodies: int = 0
    closed: int = 0


class KeyUse:
    """The shard's table `key_use`, inside the transaction that the shard holds open."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._cursor = connection.cursor()
        self._rows: dict[int, _KeyRow] = {}
        self._changed: set[int] = set()

    def check_open(self, keys: Iterable[int]) -> None:
        """Raises StoreKeyClosedError when one of these wraps nothing any more."""
        for key in keys:
            if key > 0 and self._row(key).closed:
                raise StoreKeyClosedError("write", f"key version {key}", "it has been retired")

    def may_close(self, key: int) -> bool:
        """False when it is closed already. Raises StoreKeyInUseError."""
        row = self._row(key)
        if row.bodies:
            raise StoreKeyInUseError("retire key", str(key), f"it wraps {row.bodies} data keys")
        return not row.closed

    def count(self, coding: tuple[Coding, ...], change: int) -> None:
        """A body with that coding came (1) or went (-1)."""
        for run in coding:
            if run.key > 0:
                self._row(run.key).bodies += change
                self._changed.add(run.key)

    def close(self, key: int) -> None:
        self._row(key).closed = 1
        self._changed.add(key)

    def flush(self) -> None:
        for key in sorted(self._changed):
            row = self._rows[key]
            self._cursor.execute(
                "INSERT OR REPLACE INTO key_use VALUES (?, ?, ?)", (key, row.bodies, row.closed)
            )
        self._changed.clear()

    def forget(self) -> None:
        self._rows.clear()
        self._changed.clear()

    def _row(self, key: int) -> _KeyRow:
        row = self._rows.get(key)
        if row is None:
            found = self._cursor.execute(
                "SELECT bodies, closed FROM key_use WHERE key=?", (key,)
            ).fetchall()
            row = self._rows[key] = _KeyRow(*found[0]) if found else _KeyRow()
        return row


def key_use(connection: apsw.Connection) -> dict[int, int]:
    """The data keys wrapped by each version that wraps any, committed state."""
    rows = connection.execute("SELECT key, bodies FROM key_use WHERE bodies > 0").fetchall()
    return dict(rows)


class WrappedBody(NamedTuple):
    """A version whose data keys are wrapped; its first three fields are its place in a walk."""

    bucket: BucketId
    key: bytes
    order: int
    body: Body


Place = tuple[int, bytes, int]
BEGIN: Place = (-1, b"", 0)


def wrapped_page(
    connection: apsw.Connection, after: Place, limit: int
) -> tuple[list[WrappedBody], Place | None]:
    """Of the `limit` versions behind a place those with wrapped data keys, and the place of the
    last one, None behind the last of all. One short read of committed state.
    """
    rows = connection.execute(
        "SELECT bucket, key, ord, body FROM versions WHERE (bucket, key, ord) > (?, ?, ?)"
        " ORDER BY bucket, key, ord LIMIT ?",
        (*after, limit),
    ).fetchall()
    found = []
    for bucket, key, order, raw in rows:
        body = _decode_body(raw)
        if any(run.key > 0 for run in body.coding):
            found.append(WrappedBody(bucket, key, order, body))
    return found, rows[-1][:3] if len(rows) == limit else None


def rewrapped(coding: tuple[Coding, ...], wraps: tuple[Rewrapped, ...]) -> tuple[Coding, ...]:
    """The coding with the wrapped keys changed that are still the old ones."""
    by_old = {wrap.old: wrap for wrap in wraps}
    changed = []
    for run in coding:
        wrap = by_old.get(run.wrapped) if run.key > 0 else None
        changed.append(
            run if wrap is None else Coding(run.sizes, run.frame_bytes, wrap.key, wrap.new)
        )
    return tuple(changed)
