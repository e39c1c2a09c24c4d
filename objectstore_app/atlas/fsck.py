"""`objectstore fsck`: verifies a store that no writer holds, rebuilds its views, salvages.

What is checked, shard by shard: every record of the log that a rebuild needs (checksums, order);
the database's pages (`integrity_check`, page checksums); the view, row for row, against a replay
into a fresh one (from the newest base, where there is one, else from the whole log); every extent
that a row names, read back and verified; the usage of each bucket against its rows; that no two
rows, nor a row and garbage, name the same bytes. Damage ends nothing: each place is reported with
what it holds, as far as that is known. Chunks that nothing names (an upload that was cut off before
its commit) are reported and are no error.

`--rebuild` puts fresh views in the views' place and refuses where the log is damaged. `--salvage`
does not: it starts from what is furthest (the view, if it is sound, a base, or nothing), applies
every good record behind it, and names each record that is lost. The log is left as it is but for
headers of segments, which can be made again; a base of the salvaged view stands for it from then
on.

What has to be sorted lies in a database in the folder `run`, so memory is bounded.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import msgspec

from ..config.ceph import CephAccess
from ..core.clock import now_ms
from ..core.errors import InvariantError, ObjectStoreError
from ..core.ids import ShardId
from ..media.api import Extent, ExtentReader
from ..media.errors import CorruptDataError, MediaError
from ..media.opened import Media, open_media
from ..media.place import placed
from ..media.segments import (
    DIRECTORY_SHARD,
    SEGMENT_HEADER_BYTES,
    check_header,
    segment_name,
    table_bytes,
)
from ..media.store import Store, StoreFolderError, open_store, sync_folder
from ..metadata_service.bases import holds_base, make_base, newest_base, place_base
from ..metadata_service.effects import decode_effect
from ..metadata_service.inventory import (
    TABLES,
    coding_differences,
    extents_of,
    garbage_of,
    rows_of,
    usage_differences,
)
from ..metadata_service.kept_bases import fetch_base, keep_base
from ..metadata_service.log_survey import Damage, effect_subject, salt_of, survey
from ..metadata_service.machine import Machine
from ..metadata_service.record import Record
from ..metadata_service.shard import apply_record, make_machine, replay
from ..metadata_service.view import (
    DATA,
    DIRECTORY,
    Schema,
    open_view,
    read_position,
    write_position,
)

ERROR, NOTE, LOST = "error", "note", "lost"
FINDINGS_MAX = 1000
_READ_BYTES = 8 * 1024 * 1024
_PROGRESS_BYTES = 1024 * 1024 * 1024
_DIFFERENCES_MAX = 100

Progress = Callable[[str], None]

_PLACES = """
CREATE TABLE places (
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    crc INTEGER NOT NULL, blocks INTEGER NOT NULL, row TEXT);
"""
_IN_ORDER = "CREATE INDEX in_order ON places (segment, offset)"


class Finding(msgspec.Struct, frozen=True):
    """`severity` is `error`, `lost` (given up by a salvage) or `note`; `where` names shard,
    segment, row or file.
    """

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
    salvaged: list[str] = []
    findings: list[Finding] = []
    findings_left_out: int = 0

    @property
    def clean(self) -> bool:
        return not any(finding.severity != NOTE for finding in self.findings)

    def add(self, severity: str, where: str, what: str) -> None:
        if len(self.findings) < FINDINGS_MAX or (severity != NOTE and self.clean):
            self.findings.append(Finding(severity, where, what))
        else:
            self.findings_left_out += 1


def _silent(_: str) -> None:
    """No progress is wanted."""


def check(
    data_dir: Path | str,
    *,
    rebuild: bool = False,
    salvage: bool = False,
    progress: Progress = _silent,
    ceph: CephAccess | None = None,
) -> Report:
    """Verify the store; with `rebuild` or `salvage` put fresh views in the views' place first.

    `ceph` is how to reach the data of a store that lies there. Raises StoreFolderError (no store,
    or in use by its writer).
    """
    store = open_store(data_dir, create=False)
    place = placed(store, ceph)
    report = Report(store=str(store.path))
    locks = []
    try:
        for shard in store.shards:
            locks.append(store.lock_shard(shard))
        try:
            store.master_key()
        except StoreFolderError as error:
            report.add(ERROR, "keys", f"no secret can be opened: {error}")
        with (
            tempfile.TemporaryDirectory(prefix="fsck-", dir=store.run) as folder,
            closing(open_media(store, place)) as media,
        ):
            places = apsw.Connection(str(Path(folder) / "places.sqlite"))
            places.execute(_PLACES)
            places.execute("BEGIN")
            for shard in store.shards:
                _Shard(store, media, shard, report, progress, Path(folder)).check(
                    places, rebuild=rebuild, salvage=salvage
                )
            _check_places(media, places, report, progress)
            _check_orphans(media, places, report)
            places.close(True)
    finally:
        for lock in locks:
            lock.release()
    return report


class _Shard:
    """The check of one shard."""

    def __init__(
        self,
        store: Store,
        media: Media,
        shard: ShardId,
        report: Report,
        progress: Progress,
        scratch: Path,
    ) -> None:
        self._store = store
        self._media = media
        self._shard = shard
        self._report = report
        self._progress = progress
        self._folder = store.shard(shard)
        self._view = store.view(shard)
        self._where = self._folder.name
        self._schema = DIRECTORY if shard == DIRECTORY_SHARD else DATA
        self._fresh = scratch / f"{self._where}.sqlite"
        self._bases = self._folder
        self._kept = media.kept_files(shard)
        if self._kept is not None:
            self._bases = scratch / self._where
            self._bases.mkdir()

    def check(self, places: apsw.Connection, *, rebuild: bool, salvage: bool) -> None:
        owner = self._media.owner_of(self._shard)
        if owner:
            self._report.add(NOTE, self._where, f"its log was not released by {owner}")
        whole = self._replay()
        if whole and (rebuild or salvage):
            self._put_in_place(self._report.rebuilt)
        elif whole:
            self._compare()
        elif salvage:
            self._salvage()
            self._put_in_place(self._report.salvaged)
            self._make_base()
        try:
            view = open_view(self._fresh if whole and not rebuild and not salvage else self._view,
                             self._schema)  # fmt: skip
        except ObjectStoreError as error:
            self._report.add(ERROR, self._where, f"the view cannot be read: {error}")
            return
        try:
            if self._shard != DIRECTORY_SHARD:
                self._check_rows(view, places)
        except (apsw.Error, msgspec.MsgspecError) as error:
            self._report.add(ERROR, self._where, f"the view cannot be read: {error}")
        finally:
            view.close()

    # --- the log ---

    def _machine(self, view: apsw.Connection) -> Machine:
        return make_machine(self._shard, view, self._store.info.data_shards)

    def _replay(self) -> bool:
        """Make the fresh view from base and log; false, with every damage told, when that cannot
        be done.
        """
        self._progress(f"{self._where}: replaying the log")
        begun = 0
        try:
            if self._kept is not None:
                fetch_base(self._kept, self._bases, self._fresh)
            base = place_base(self._bases, self._fresh)
            begun = base.sequence if base is not None else 0
        except (MediaError, OSError) as error:
            self._report.add(ERROR, self._where, f"the base cannot be read: {error}")
        fresh = open_view(self._fresh, self._schema)
        try:
            log = self._media.log_source(self._shard)
            scan = replay(log, fresh, self._machine(fresh))
        except (MediaError, ValueError) as error:
            self._report.add(ERROR, self._where, f"the log cannot be replayed: {error}")
            self._report.records += sum(self._tell_damage(begun))
            return False
        finally:
            sequence, *_ = read_position(fresh)
            fresh.close()
        if scan.torn and not self._media.segments.tears:
            self._report.records += sum(self._tell_damage(begun))
            return False
        self._report.records += sequence - begun
        if scan.torn:
            segment, offset = scan.position
            what = f"a torn tail behind segment {segment:#x} offset {offset}, cut off at the start"
            self._report.add(NOTE, self._where, what)
        return True

    def _tell_damage(self, begun: int) -> Iterator[int]:
        """Report each damage of the log; yields 1 for each record that is good."""
        for found in survey(self._media.segments, self._shard, begun):
            if isinstance(found, Record):
                yield 1
            elif found.last == 0 or found.last > begun:
                severity = NOTE if self._is_torn(found) else ERROR
                self._report.add(severity, f"{self._where} log", str(found))

    def _is_torn(self, damage: Damage) -> bool:
        """Whether this is what a crash may leave, which nobody was told is there."""
        return damage.torn and self._media.segments.tears

    # --- salvage ---

    def _salvage(self) -> None:
        """The furthest sound view, and every good record behind it, into the fresh view's place."""
        self._progress(f"{self._where}: salvaging")
        self._mend_headers()
        base = newest_base(self._bases)
        held = self._sound_view()
        if held is None:
            sequence, *_ = self._position_of_fresh()
            if base is None or sequence < base.sequence:
                what = "neither view nor base can be read: what the log does not hold is lost"
                self._report.add(NOTE, self._where, what)
        else:
            # What the replay made ends at the damage; the view may have applied what lies there.
            sequence = held
            _copy_view(self._view, self._fresh, self._schema)
        fresh = open_view(self._fresh, self._schema)
        machine = self._machine(fresh)
        try:
            for found in survey(self._media.segments, self._shard, sequence):
                if isinstance(found, Damage):
                    if not self._is_torn(found) and (found.last == 0 or found.last > sequence):
                        self._report.add(LOST, f"{self._where} log", str(found))
                elif found.sequence > sequence:
                    self._apply(machine, fresh, found)
        finally:
            fresh.close()

    def _mend_headers(self) -> None:
        """A segment's header says little that its name does not; its salt is proved by a record."""
        segments = self._media.segments
        for number in segments.logs(self._shard):
            whole = segments.whole(number)
            try:
                check_header(number, whole.content[:SEGMENT_HEADER_BYTES])
            except CorruptDataError as error:
                salt = salt_of(whole)
                if salt is not None:
                    segments.mend_header(number, salt)
                    self._report.add(NOTE, f"{self._where} log", f"mended: {error}")

    def _apply(self, machine: Machine, fresh: apsw.Connection, record: Record) -> None:
        try:
            with fresh:
                apply_record(machine, record)
                machine.flush()
                write_position(fresh, record.sequence, record.segment, record.end, record.epoch)
        except (CorruptDataError, InvariantError) as error:
            machine.forget()
            subject = effect_subject(decode_effect(record.payload))
            self._report.add(
                LOST, f"{self._where} record {record.sequence}", f"{subject}: {error.hint}"
            )

    def _position_of_fresh(self) -> tuple[int, int, int, int]:
        fresh = open_view(self._fresh, self._schema)
        try:
            return read_position(fresh)
        finally:
            fresh.close()

    def _sound_view(self) -> int | None:
        """Up to which record the view has applied the log; None when it is not sound or behind the
        fresh one.
        """
        if not self._view.exists():
            return None
        try:
            view = open_view(self._view, self._schema)
        except ObjectStoreError:
            return None
        try:
            if next(_integrity(view), None) is not None:
                return None
            sequence, *_ = read_position(view)
        except apsw.Error:
            return None
        finally:
            view.close()
        return sequence if sequence > self._position_of_fresh()[0] else None

    def _make_base(self) -> None:
        """From now on the salvaged view stands for the damaged log."""
        view = open_view(self._view, self._schema)
        try:
            steps = make_base(view, self._folder, now_ms())
            if self._kept is not None:
                steps = keep_base(self._kept, self._folder, steps)
            for _ in steps:
                pass
        finally:
            view.close()

    # --- the view ---

    def _put_in_place(self, done: list[str]) -> None:
        for suffix in ("-wal", "-shm"):
            Path(f"{self._view}{suffix}").unlink(missing_ok=True)
        descriptor = os.open(self._fresh, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(self._fresh, self._view)
        sync_folder(self._folder)
        done.append(self._where)

    def _compare(self) -> None:
        """The view, once brought up to the log's end, holds the rows that the log adds up to."""
        self._progress(f"{self._where}: comparing the view with the log")
        if not self._view.exists():
            self._report.add(NOTE, self._where, "there is no view yet; the next start makes it")
            return
        if not holds_base(self._bases, self._view):
            what = "the view is behind its base; the next start takes the base"
            self._report.add(NOTE, self._where, what)
            return
        fresh = open_view(self._fresh, self._schema)
        try:
            view = open_view(self._view, self._schema)
            try:
                for what in _integrity(view):
                    self._report.add(ERROR, f"{self._where} database", what)
                base = newest_base(self._bases)
                if base is not None and read_position(view)[0] < base.sequence:
                    what = "the view is behind its base, which the next start puts in its place"
                    self._report.add(NOTE, self._where, what)
                    return
                # What a crash left unapplied is no damage: every start does this too.
                replay(self._media.log_source(self._shard), view, self._machine(view))
                for table in TABLES[self._schema.name]:
                    for what in _table_differences(self._schema, table, view, fresh):
                        self._report.add(ERROR, f"{self._where} {table}", what)
            finally:
                view.close()
        except (ObjectStoreError, apsw.Error) as error:
            what = f"the view cannot be read, --rebuild makes it anew: {error}"
            self._report.add(ERROR, self._where, what)
        finally:
            fresh.close()

    def _check_rows(self, view: apsw.Connection, places: apsw.Connection) -> None:
        self._progress(f"{self._where}: counting what each bucket holds")
        for what in usage_differences(view):
            self._report.add(ERROR, f"{self._where} buckets", what)
        for what in coding_differences(view):
            self._report.add(ERROR, self._where, what)
        insert = "INSERT INTO places VALUES (?, ?, ?, ?, ?, ?)"
        for row, extent in extents_of(view):
            named = f"{self._where} {row}"
            places.execute(insert, (*_cells(extent), named))
        for extent in garbage_of(view):
            places.execute(insert, (*_cells(extent), None))


def _cells(extent: Extent) -> tuple[int, int, int, int, int]:
    return extent.segment, extent.offset, extent.length, extent.crc, int(extent.blocks)


def _integrity(view: apsw.Connection) -> Iterator[str]:
    """What SQLite finds wrong with a database; it reads every page, and verifies its checksum."""
    for (text,) in view.execute(f"PRAGMA integrity_check({_DIFFERENCES_MAX})"):
        if text != "ok":
            yield str(text)


def _copy_view(view: Path, target: Path, schema: Schema) -> None:
    """Copy a view with what lies in its write-ahead log."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
    source, copy = open_view(view, schema), open_view(target, schema)
    try:
        with copy.backup("main", source, "main") as copying:
            copying.step()
    finally:
        source.close()
        copy.close()


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


def _check_places(
    media: Media, places: apsw.Connection, report: Report, progress: Progress
) -> None:
    """Read and verify what rows name, segment by segment, and look for bytes named twice."""
    places.execute(_IN_ORDER)

    async def read_all() -> None:
        last = (0, 0)
        told = 0
        for segment, offset, length, crc, blocks, row in places.execute(
            "SELECT * FROM places ORDER BY segment, offset"
        ):
            if segment == last[0] and offset < last[1]:
                what = f"segment {segment:#x} offset {offset} is named more than once"
                report.add(ERROR, row or f"segment {segment:#x}", what)
            last = (segment, offset + length)
            if row is not None:
                extent = Extent(segment, offset, length, crc, bool(blocks))
                await _verify(media.reader, extent, row, report)
            if report.bytes_read - told >= _PROGRESS_BYTES:
                told = report.bytes_read
                progress(f"{report.extents} extents, {told >> 20} MiB read")

    progress("reading what the rows name")
    asyncio.run(read_all())


async def _verify(reader: ExtentReader, extent: Extent, row: str, report: Report) -> None:
    report.extents += 1
    try:
        for start in range(0, extent.length, _READ_BYTES):
            data = await reader.read(extent, start, min(_READ_BYTES, extent.length - start))
            report.bytes_read += len(data)
    except MediaError as error:
        report.add(ERROR, row, str(error))


def _check_orphans(media: Media, places: apsw.Connection, report: Report) -> None:
    """Chunk segments whose bytes nothing names, or whose header is damaged."""
    segments = media.segments
    align = segments.chunk_align_bytes
    for number in sorted(segments.chunks()):
        named = sum(
            -(-(length + table_bytes(length)) // align) * align
            for (length,) in places.execute("SELECT length FROM places WHERE segment=?", (number,))
        )
        name, taken = segment_name(number), segments.taken(number) or 0
        try:
            check_header(number, segments.header(number))
        except CorruptDataError as error:
            report.add(ERROR if named else NOTE, name, str(error))
            continue
        unnamed = taken - max(SEGMENT_HEADER_BYTES, align) - named
        if unnamed > 0:
            report.add(NOTE, name, f"{unnamed} bytes of chunks that nothing names")
