"""`objectstore fsck`: verifies a store that no writer holds, and can rebuild its views.

What is checked, shard by shard: every record of the log (checksums, order); the view, row for row,
against a replay of the whole log into a fresh one; every extent that a row names, read back and
verified; the usage of each bucket against its rows; that no two rows, nor a row and garbage, name
the same bytes. Chunks that nothing names (an upload that was cut off before its commit) are
reported and are no error.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import msgspec

from ..core.errors import ObjectStoreError
from ..core.ids import ShardId
from ..media.api import Extent
from ..media.chunks import LocalReader
from ..media.errors import CorruptDataError, MediaError
from ..media.local import LocalLog
from ..media.segments import DIRECTORY_SHARD, SEGMENT_HEADER_BYTES, check_header, table_bytes
from ..media.store import Store, open_store
from ..metadata_service.bases import place_base
from ..metadata_service.inventory import (
    TABLES,
    coding_differences,
    extents_of,
    garbage_of,
    rows_of,
    usage_differences,
)
from ..metadata_service.shard import make_machine, replay
from ..metadata_service.view import DATA, DIRECTORY, Schema, open_view, read_position

ERROR, NOTE = "error", "note"
FINDINGS_MAX = 1000
HOLE_EDGE_BYTES_MAX = 4096
_READ_BYTES = 8 * 1024 * 1024

Progress = Callable[[str], None]


class Finding(msgspec.Struct, frozen=True):
    """`severity` is `error` or `note`; `where` names shard, segment, row or file."""

    severity: str
    where: str
    what: str


class Report(msgspec.Struct, kw_only=True):
    """`records`, `extents` and `bytes_read` count what was verified."""

    store: str
    records: int = 0
    extents: int = 0
    bytes_read: int = 0
    rebuilt: list[str] = []
    findings: list[Finding] = []
    findings_left_out: int = 0

    @property
    def clean(self) -> bool:
        return not any(finding.severity == ERROR for finding in self.findings)

    def add(self, severity: str, where: str, what: str) -> None:
        if len(self.findings) < FINDINGS_MAX or (severity == ERROR and self.clean):
            self.findings.append(Finding(severity, where, what))
        else:
            self.findings_left_out += 1


def _silent(_: str) -> None:
    """No progress is wanted."""


def check(data_dir: Path | str, *, rebuild: bool = False, progress: Progress = _silent) -> Report:
    """Verify the store; with `rebuild` put fresh views, made from the logs, in the views' place
    first.

    Raises StoreFolderError (no store, or in use by its writer).
    """
    store = open_store(data_dir, create=False)
    report = Report(store=str(store.path))
    locks = []
    try:
        for shard in store.shards:
            locks.append(store.lock_shard(shard))
        named = _Named()
        for shard in store.shards:
            _check_shard(store, shard, rebuild, report, progress, named)
        _check_orphans(store, report, named)
    finally:
        for lock in locks:
            lock.release()
    return report


@dataclass(slots=True)
class _Named:
    """Bytes of chunk segments that some row names."""

    chunk_bytes: dict[int, int] = field(default_factory=dict)


def _check_shard(
    store: Store,
    shard: ShardId,
    rebuild: bool,
    report: Report,
    progress: Progress,
    named: _Named,
) -> None:
    where = store.shard(shard).name
    schema = DIRECTORY if shard == DIRECTORY_SHARD else DATA
    with tempfile.TemporaryDirectory(prefix="fsck-", dir=store.run) as folder:
        fresh_path = Path(folder) / "view.sqlite"
        progress(f"{where}: replaying the log")
        fresh = _replay(store, shard, schema, fresh_path, report)
        if fresh is None:
            return
        if rebuild:
            fresh.close()
            _swap_view(fresh_path, store.view(shard))
            report.rebuilt.append(where)
            fresh = open_view(store.view(shard), schema)
        else:
            _compare_views(store, shard, schema, fresh, report, progress)
        try:
            if shard != DIRECTORY_SHARD:
                _check_rows(fresh, where, report)
                progress(f"{where}: reading what the rows name")
                _check_extents(store, fresh, where, report, named)
        finally:
            fresh.close()


def _replay(
    store: Store, shard: ShardId, schema: Schema, path: Path, report: Report
) -> apsw.Connection | None:
    """A fresh view, of the base if there is one and of the log behind it; None when the log is
    damaged. With a damaged base the log serves as long as it is whole.
    """
    where = store.shard(shard).name
    try:
        place_base(store.shard(shard), path)
    except MediaError as error:
        report.add(ERROR, where, str(error))
    fresh = open_view(path, schema)
    try:
        log = LocalLog(store.shard(shard), shard)
        try:
            machine = make_machine(shard, fresh, store.info.data_shards)
            scan = replay(log, fresh, machine)
        finally:
            log.close()
    except (MediaError, ValueError) as error:
        report.add(ERROR, where, f"the log cannot be read: {error}")
        fresh.close()
        return None
    sequence, *_ = read_position(fresh)
    report.records += sequence
    if scan.torn:
        segment, offset = scan.position
        what = f"a torn tail behind segment {segment:#x} offset {offset}, cut off at the next start"
        report.add(NOTE, where, what)
    return fresh


def _swap_view(fresh: Path, view: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{view}{suffix}").unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(fresh, view)


def _compare_views(
    store: Store,
    shard: ShardId,
    schema: Schema,
    fresh: apsw.Connection,
    report: Report,
    progress: Progress,
) -> None:
    """The view, once brought up to the log's end, holds the rows that the log adds up to."""
    where = store.shard(shard).name
    progress(f"{where}: comparing the view with the log")
    if not store.view(shard).exists():
        report.add(NOTE, where, "there is no view yet; the next start makes it")
        return
    try:
        view = open_view(store.view(shard), schema)
        log = LocalLog(store.shard(shard), shard)
        try:
            # What a crash left unapplied is no damage: every start does this too.
            replay(log, view, make_machine(shard, view, store.info.data_shards))
            for table in TABLES[schema.name]:
                for what in _table_differences(schema, table, view, fresh):
                    report.add(ERROR, f"{where} {table}", what)
        finally:
            log.close()
            view.close()
    except (ObjectStoreError, apsw.Error) as error:
        report.add(ERROR, where, f"the view cannot be read, --rebuild makes it anew: {error}")


def _table_differences(
    schema: Schema, table: str, view: apsw.Connection, fresh: apsw.Connection
) -> Iterator[str]:
    """Merge both tables by primary key; report the first differences."""
    held, wanted = rows_of(view, schema.name, table), rows_of(fresh, schema.name, table)
    mine, other = next(held, None), next(wanted, None)
    while mine is not None or other is not None:
        if mine == other:
            mine, other = next(held, None), next(wanted, None)
            continue
        if other is None or (mine is not None and mine[0] < other[0]):
            yield f"row {mine and mine[0]!r} is not in the log"
            mine = next(held, None)
        elif mine is None or mine[0] > other[0]:
            yield f"row {other[0]!r} is missing"
            other = next(wanted, None)
        else:
            yield f"row {other[0]!r} differs from the log"
            mine, other = next(held, None), next(wanted, None)


def _check_rows(view: apsw.Connection, where: str, report: Report) -> None:
    for what in usage_differences(view):
        report.add(ERROR, f"{where} buckets", what)
    for what in coding_differences(view):
        report.add(ERROR, where, what)
    last: tuple[int, int, int] = (0, 0, 0)
    places = sorted(
        (extent.segment, extent.offset, extent.offset + extent.length)
        for source in (garbage_of(view), (extent for _, extent in extents_of(view)))
        for extent in source
    )
    for place in places:
        if place[0] == last[0] and place[1] < last[2]:
            report.add(
                ERROR, where, f"segment {place[0]:#x} offset {place[1]} is named more than once"
            )
        last = place


def _check_extents(
    store: Store, view: apsw.Connection, where: str, report: Report, named: _Named
) -> None:
    async def read_all() -> None:
        reader = LocalReader(store.path)
        try:
            for row, extent in extents_of(view):
                await _verify(reader, extent, f"{where} {row}", report)
        finally:
            reader.close()

    asyncio.run(read_all())
    for source in (garbage_of(view), (extent for _, extent in extents_of(view))):
        for extent in source:
            if extent.blocks:
                held = named.chunk_bytes.get(extent.segment, 0)
                total = extent.length + table_bytes(extent.length)
                named.chunk_bytes[extent.segment] = held + total


async def _verify(reader: LocalReader, extent: Extent, where: str, report: Report) -> None:
    report.extents += 1
    try:
        for start in range(0, extent.length, _READ_BYTES):
            data = await reader.read(extent, start, min(_READ_BYTES, extent.length - start))
            report.bytes_read += len(data)
    except MediaError as error:
        report.add(ERROR, where, str(error))


def _check_orphans(store: Store, report: Report, named: _Named) -> None:
    for path in sorted(store.chunks.glob("*.seg")):
        number = int(path.stem, 16)
        with open(path, "rb") as file:
            try:
                taken = _bytes_taken(file.fileno())
                check_header(number, file.read(SEGMENT_HEADER_BYTES))
            except CorruptDataError as error:
                severity = ERROR if number in named.chunk_bytes else NOTE
                report.add(severity, path.name, str(error))
                continue
        unnamed = taken - SEGMENT_HEADER_BYTES - named.chunk_bytes.get(number, 0)
        if unnamed > 0:
            report.add(NOTE, path.name, f"{unnamed} bytes of chunks that nothing names")


def _bytes_taken(descriptor: int) -> int:
    """The file's bytes but for its holes and the rests of blocks at their edges."""
    size = os.fstat(descriptor).st_size
    taken = end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # a hole to the end
            raise
        taken -= 2 * HOLE_EDGE_BYTES_MAX if start > end else 0
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        taken += end - start
    os.lseek(descriptor, 0, os.SEEK_SET)
    return taken
