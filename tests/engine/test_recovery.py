"""Recovery of a shard from its log: cut anywhere, torn, with holes, damaged in the middle."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from objectstore_app.core.ids import BucketId, ShardId
from objectstore_app.core.limits import (
    COMMIT_BYTES_MAX,
    LOG_FREE_BYTES_MIN,
    LOG_RESERVE_BYTES_MIN,
    MIB,
)
from objectstore_app.media.errors import CorruptDataError, MediaFailedError, MediaFullError
from objectstore_app.media.local import LocalLog, LocalLogReader
from objectstore_app.media.local_segments import LocalSegments
from objectstore_app.media.memory import Faults, MemoryLog, MemoryStore, PowerLossError
from objectstore_app.media.segments import (
    SEGMENT_HEADER_BYTES,
    check_header,
    checksum,
    shard_folder,
)
from objectstore_app.media.store import Store, StoreInfo
from objectstore_app.metadata_service.api import (
    CreateUpload,
    Deleted,
    DeleteKey,
    OpenBucket,
    SetVersioning,
    Written,
)
from objectstore_app.metadata_service.effects import BucketOpened, encode_effect
from objectstore_app.metadata_service.log_survey import survey
from objectstore_app.metadata_service.record import MAGIC, LogScan, encode
from objectstore_app.metadata_service.shard import Shard
from tests.engine.support import (
    BUCKET,
    OWNER,
    do,
    dump,
    memory_shard,
    open_shard,
    opened_bucket,
    put,
)

SEGMENT = 1


def scanned(folder: Path) -> int:
    """How many records recovery reads."""
    return len(list(LogScan(LocalLogReader(folder, ShardId(0)), 0, 0, 0)))


def surveyed(folder: Path) -> int:
    """How many records verification reads."""
    info = StoreInfo(format=1, store_id="", data_shards=1, region="")
    return len(list(survey(LocalSegments(Store(folder.parent, info)), ShardId(0))))


def copy(store: MemoryStore, end: int | None = None) -> MemoryStore:
    """The same bytes on another medium, the log cut at `end`."""
    segments = {number: bytearray(content) for number, content in store.segments.items()}
    if end is not None:
        del segments[SEGMENT][end:]
    return MemoryStore(segments)


def short_history() -> tuple[MemoryStore, list[tuple[int, dict[str, list[object]]]]]:
    """A log, and after each commit its length and the rows."""
    store = MemoryStore()
    shard = memory_shard(store)
    states = [(SEGMENT_HEADER_BYTES, dump(shard))]
    for mutations in (
        [OpenBucket(bucket=BUCKET)],
        [put(b"a", b"x" * 5), put(b"b", b"y" * 520)],
        [put(b"a", b"z"), DeleteKey(bucket=BUCKET, key=b"b", owner=OWNER)],
        [SetVersioning(bucket=BUCKET, state="Enabled"), put(b"a"), put(b"a", b"v" * 520)],
    ):
        shard.commit(mutations)
        states.append((len(store.segments[SEGMENT]), dump(shard)))
    return store, states


def test_log_cut_at_every_byte_recovers_all_that_was_acknowledged_before_the_cut() -> None:
    store, states = short_history()
    prefixes = set()
    for end in range(SEGMENT_HEADER_BYTES, len(store.segments[SEGMENT]) + 1):
        cut = copy(store, end)
        shard = memory_shard(cut)
        acknowledged = max(index for index, (length, _) in enumerate(states) if length <= end)
        if end == states[acknowledged][0]:
            assert dump(shard) == states[acknowledged][1]
        assert len(cut.segments[SEGMENT]) <= end
        assert len(cut.segments[SEGMENT]) >= states[acknowledged][0]
        prefixes.add(len(cut.segments[SEGMENT]))
        if end % 16 == 0:
            # What was cut off must not come back: the log goes on and recovers again.
            shard.commit([OpenBucket(bucket=BUCKET), put(b"later")])
            assert dump(memory_shard(cut)) == dump(shard)
    assert len(prefixes) == 9, "one state for each record, and the empty log"


def test_flipped_bit_in_an_acknowledged_record_is_refused_with_its_place() -> None:
    store, states = short_history()
    rng = random.Random(5)
    for _ in range(60):
        damaged = copy(store)
        at = rng.randrange(SEGMENT_HEADER_BYTES, states[-2][0])
        damaged.segments[SEGMENT][at] ^= 1 << rng.randrange(8)
        with pytest.raises(CorruptDataError, match=r"segment 0x1 offset \d+.*objectstore fsck"):
            memory_shard(damaged)


def test_flipped_bit_in_the_last_append_is_a_torn_tail() -> None:
    store, states = short_history()
    for at in range(states[-2][0], states[-1][0], 7):
        damaged = copy(store)
        damaged.segments[SEGMENT][at] ^= 1
        shard = memory_shard(damaged)
        assert states[-2][0] <= len(damaged.segments[SEGMENT]) < states[-1][0]
        assert do(shard, OpenBucket(bucket=BUCKET)) is None


def test_magic_inside_a_body_is_no_record() -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    do(shard, put(b"k", MAGIC * 300))
    size = len(store.segments[SEGMENT])
    del store.segments[SEGMENT][size - 1 :]
    memory_shard(store)
    assert len(store.segments[SEGMENT]) < size - 1200


def test_a_record_forged_in_a_body_does_not_make_a_torn_tail_corruption() -> None:
    """Whoever may put an object could else keep the store from starting after a crash: even where
    he knows the salt, or an earlier format has none.
    """
    store = MemoryStore()
    shard = memory_shard(store)
    shard.commit([OpenBucket(bucket=BUCKET)])
    wanted = dump(shard)
    salt = check_header(SEGMENT, store.segments[SEGMENT][:SEGMENT_HEADER_BYTES])
    forged = encode(1000, 1000, 1, b"payload", 0, 0, salt)
    whole = len(store.segments[SEGMENT])
    shard.commit([put(b"a", forged + b"a" * 600), put(b"b", forged * 3 + b"b" * 600)])
    end = len(store.segments[SEGMENT])
    for cut in range(end - 1, end - 600, -100):
        assert dump(memory_shard(copy(store, cut))).keys() == wanted.keys()
    holed = copy(store)
    holed.segments[SEGMENT][whole + 200 + len(forged)] ^= 1  # in the first body, behind the forgery
    assert dump(memory_shard(holed)) == wanted


def test_a_record_of_another_segment_does_not_count_in_this_one() -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    wanted = dump(shard)
    end = len(store.segments[SEGMENT])
    salt = check_header(SEGMENT, store.segments[SEGMENT][:SEGMENT_HEADER_BYTES])
    effect = encode_effect(BucketOpened(BucketId(8)))
    store.segments[SEGMENT] += encode(2, 2, 1, effect, 0, 0, salt ^ 1)
    assert dump(memory_shard(store)) == wanted
    assert len(store.segments[SEGMENT]) == end


def test_log_without_salt_is_read_and_goes_on() -> None:
    """Format 1 had zeros in the salt's place, and no room ahead."""
    store = MemoryStore()
    header = struct.pack("<8sHHIQII", b"OSTOLOG\n", 1, 0, 0, SEGMENT, 0, 0)
    header = header[:24] + checksum(header).to_bytes(4, "little") + header[28:]
    effect = encode_effect(BucketOpened(BUCKET))
    store.segments[SEGMENT] = bytearray(header + encode(1, 1, 1, effect, 0, 0, 0))
    shard = open_shard(Unsalted(store, ShardId(0)), ShardId(0))
    do(shard, put(b"k", b"x" * 900))
    rows = dump(shard)
    assert rows == dump(open_shard(Unsalted(store, ShardId(0)), ShardId(0)))
    del store.segments[SEGMENT][-1:]
    assert open_shard(Unsalted(store, ShardId(0)), ShardId(0)).replayed == 1


class Unsalted(MemoryLog):
    """Goes on in a segment of format 1."""

    salt = 0


@pytest.mark.parametrize("zeros_ahead", [0, 100_000])
@pytest.mark.parametrize("seed", range(60))
def test_power_loss_in_an_append_keeps_acknowledged_writes_and_tears_none(
    seed: int, zeros_ahead: int
) -> None:
    rng = random.Random(seed)
    store = MemoryStore()
    holes = tuple((start, start + 4096) for start in range(0, 40_000, 4096) if rng.random() < 0.3)
    faults = Faults(
        power_loss_at=rng.randrange(2, 12), keep_bytes=rng.randrange(40_000), holes=holes
    )
    shard = opened_bucket(store, faults=faults, zeros_ahead=zeros_ahead)
    acknowledged: dict[bytes, int] = {}
    sent: dict[bytes, int] = {}

    def load() -> None:
        nonlocal sent
        while True:
            sent = {b"k%d" % rng.randrange(9): rng.randrange(5000) for _ in range(6)}
            shard.commit([put(key, bytes(size)) for key, size in sent.items()])
            acknowledged.update(sent)

    with pytest.raises(PowerLossError):
        load()
    again = memory_shard(store)
    sizes = dict(again.view.execute("SELECT key, size FROM versions").fetchall())
    for key, size in acknowledged.items():
        assert sizes[key] in (size, sent.get(key, size))
    for key, size in sizes.items():
        assert size in (acknowledged.get(key), sent.get(key))
    do(again, put(b"later"))
    assert dump(memory_shard(store)) == dump(again)


def test_view_behind_the_log_is_brought_forward(tmp_path: Path) -> None:
    store = MemoryStore()
    view = tmp_path / "view.sqlite"
    shard = memory_shard(store, view=view)
    do(shard, OpenBucket(bucket=BUCKET))
    shard.view.close()
    ahead = memory_shard(store)
    do(ahead, put(b"k", b"x" * 900))
    behind = memory_shard(store, view=view)
    assert behind.replayed == 1
    assert dump(behind) == dump(ahead)


def test_log_that_ends_before_its_view_is_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    view = tmp_path / "view.sqlite"
    shard = memory_shard(store, view=view)
    do(shard, OpenBucket(bucket=BUCKET))
    shard.view.close()
    with pytest.raises(CorruptDataError, match="ends before"):
        memory_shard(copy(store, SEGMENT_HEADER_BYTES), view=view)


def test_no_room_refuses_the_group_and_the_shard_goes_on() -> None:
    store = MemoryStore()
    shard = opened_bucket(store, faults=Faults(full_at=2))
    before = dump(shard)
    first, second = shard.commit([put(b"a"), put(b"b")])
    assert isinstance(first, MediaFullError)
    assert isinstance(second, MediaFullError)
    assert dump(shard) == before
    do(shard, put(b"a", b"12"))
    assert dump(memory_shard(store)) == dump(shard)


def test_deletes_may_use_the_reserve_that_writes_leave() -> None:
    faults = Faults()
    shard = opened_bucket(faults=faults)
    for key in (b"a", b"b", b"c"):
        do(shard, put(key, bytes(600)))
    faults.room = LOG_FREE_BYTES_MIN - 1
    outcomes = shard.commit([put(b"d"), DeleteKey(bucket=BUCKET, key=b"a", owner=OWNER), put(b"b")])
    assert [type(outcome) for outcome in outcomes] == [MediaFullError, Deleted, MediaFullError]
    assert shard.commit([OpenBucket(bucket=BUCKET)]) == [None], "nothing is written for it"
    with pytest.raises(MediaFullError):
        do(shard, CreateUpload(bucket=BUCKET, key=b"u", owner=OWNER))
    with pytest.raises(MediaFullError):
        do(shard, SetVersioning(bucket=BUCKET, state="Enabled"))
    faults.room = LOG_RESERVE_BYTES_MIN - 1
    with pytest.raises(MediaFullError):
        do(shard, DeleteKey(bucket=BUCKET, key=b"b", owner=OWNER))
    faults.room = LOG_FREE_BYTES_MIN
    do(shard, put(b"d"))
    held = shard.view.execute("SELECT key FROM versions ORDER BY key").fetchall()
    assert held == [(b"b",), (b"c",), (b"d",)]


def test_view_without_room_refuses_the_group_and_the_shard_goes_on(tmp_path: Path) -> None:
    store = MemoryStore()
    shard = memory_shard(store, view=tmp_path / "view.sqlite")
    do(shard, OpenBucket(bucket=BUCKET))
    ((pages,),) = shard.view.execute("PRAGMA page_count").fetchall()
    shard.view.execute(f"PRAGMA max_page_count={pages}").fetchall()
    outcomes = shard.commit([put(b"k%d" % n, bytes(500)) for n in range(40)])
    assert any(isinstance(outcome, MediaFullError) for outcome in outcomes)
    accepted = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Written)]
    held = shard.view.execute("SELECT key FROM versions ORDER BY ord DESC").fetchall()
    assert [key for (key,) in held] == [b"k%d" % n for n in accepted]
    shard.view.execute("PRAGMA max_page_count=100000").fetchall()
    do(shard, put(b"k", bytes(500)))
    assert dump(memory_shard(store)) == dump(shard)


def test_failed_append_ends_the_shard() -> None:
    shard = opened_bucket(faults=Faults(power_loss_at=2))
    with pytest.raises(MediaFailedError):
        do(shard, put(b"a"))
    with pytest.raises(MediaFailedError):
        do(shard, put(b"b"))


def test_log_rolls_and_recovers_over_all_its_segments() -> None:
    store = MemoryStore()
    roll = COMMIT_BYTES_MAX + 3000
    shard = memory_shard(store, segment_bytes_max=roll)
    do(shard, OpenBucket(bucket=BUCKET))
    for number in range(20):
        do(shard, put(b"k%d" % number, bytes(1000)))
    assert len(store.segments) > 5
    assert dump(memory_shard(store, segment_bytes_max=roll)) == dump(shard)
    del store.segments[3][-1:]
    with pytest.raises(CorruptDataError, match="segment 0x3"):
        memory_shard(store, segment_bytes_max=roll)


def test_zeros_behind_the_last_record_end_every_segment() -> None:
    store = MemoryStore()
    roll = COMMIT_BYTES_MAX + 3000
    shard = memory_shard(store, segment_bytes_max=roll, zeros_ahead=9000)
    do(shard, OpenBucket(bucket=BUCKET))
    for number in range(12):
        do(shard, put(b"k%d" % number, bytes(1000)))
    assert len(store.segments) > 3
    sizes = {number: len(content) for number, content in store.segments.items()}
    again = memory_shard(store, segment_bytes_max=roll, zeros_ahead=9000)
    assert dump(again) == dump(shard)
    do(again, put(b"later", bytes(1000)))
    assert {number: len(store.segments[number]) for number in sizes} == sizes, "none was cut"
    lost = store.segments[3]
    lost[SEGMENT_HEADER_BYTES:] = bytes(len(lost) - SEGMENT_HEADER_BYTES)
    with pytest.raises(CorruptDataError, match="is due"):
        memory_shard(store)


def peak_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize("reads", [scanned, surveyed])
def test_zeros_ahead_of_use_do_not_stay_in_memory(
    tmp_path: Path, reads: Callable[[Path], int]
) -> None:
    folder = tmp_path / shard_folder(ShardId(0))
    folder.mkdir()
    shard = local_shard(folder)
    do(shard, OpenBucket(bucket=BUCKET))
    shard.close()
    with (folder / "log-00000001.seg").open("ab") as file:
        for _ in range(64):
            file.write(bytes(MIB))
    assert reads(folder) == 1
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_kib("VmRSS")
    assert reads(folder) == 1
    assert peak_kib("VmHWM") - before < 24 * 1024


def test_group_larger_than_an_append_is_split_in_order() -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    count = COMMIT_BYTES_MAX // (128 * 1024) + 5
    outcomes = shard.commit([put(b"k%03d" % n, bytes(128 * 1024)) for n in range(count)])
    assert len(outcomes) == count
    assert dump(memory_shard(store)) == dump(shard)


def local_shard(folder: Path) -> Shard:
    return open_shard(LocalLog(folder, ShardId(0)), ShardId(0), view=folder / "view.sqlite")


def test_local_log_gives_the_same_rows_as_memory_and_survives_reopening(tmp_path: Path) -> None:
    store = MemoryStore()
    for shard in (memory_shard(store), local_shard(tmp_path)):
        do(shard, OpenBucket(bucket=BUCKET))
        do(shard, put(b"k", b"x" * 900))
        do(shard, put(b"k", b"y" * 900))
        rows = dump(shard)
        shard.close()
    assert dump(memory_shard(store)) == rows == dump(local_shard(tmp_path))
    assert (tmp_path / "log-00000001.seg").stat().st_size == len(store.segments[SEGMENT])


def test_scan_from_the_beginning_yields_every_record(tmp_path: Path) -> None:
    shard = local_shard(tmp_path)
    do(shard, OpenBucket(bucket=BUCKET))
    do(shard, put(b"k", b"x" * 900))
    shard.close()
    records = list(LogScan(LocalLog(tmp_path, ShardId(0)), 0, 0, 0))
    assert [(one.sequence, one.batch, len(one.body)) for one in records] == [(1, 1, 0), (2, 2, 900)]
