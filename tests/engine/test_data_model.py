"""The data shard against a simple model of S3, under random operations; again after replay."""

from __future__ import annotations

import random

import pytest

from objectstore_app.media.memory import MemoryStore
from objectstore_app.metadata_service import listing, reads, uploads
from objectstore_app.metadata_service.api import (
    AbortUpload,
    Attributes,
    CompletedPart,
    CompleteUpload,
    CreateUpload,
    Deleted,
    DeleteKey,
    DeleteVersion,
    PutPart,
    SetVersioning,
    Upload,
    Written,
)
from objectstore_app.metadata_service.errors import (
    ConditionFailedError,
    KeyMissingError,
    Refused,
    UploadMissingError,
)
from objectstore_app.metadata_service.inventory import usage_differences
from objectstore_app.metadata_service.shard import Shard
from tests.engine.model import ModelBucket, Version, group
from tests.engine.support import BUCKET, OWNER, do, dump, memory_shard, opened_bucket, put

KEYS = [
    b"a", b"a/", b"a/1", b"a/2", b"a/b/1", b"a0", b"b/x", b"b/y", b"c", b"c\xff", b"c\xff/1",
    b"\xff", b"\xff\xff/z", b"z",
]  # fmt: skip
PREFIXES = [b"", b"a", b"a/", b"b/", b"c\xff", b"\xff", b"nothing"]


class Driver:
    """Does the same to shard and model."""

    def __init__(self, shard: Shard, rng: random.Random) -> None:
        self.shard = shard
        self.rng = rng
        self.model = ModelBucket()
        self.known: list[tuple[bytes, str]] = []

    def step(self) -> None:
        action = self.rng.choice(
            [self.put] * 6
            + [self.delete] * 3
            + [self.delete_version] * 3
            + [self.create_upload, self.put_part, self.put_part, self.complete, self.abort]
        )
        if self.rng.random() < 0.01:
            action = self.set_versioning
        action()

    def set_versioning(self) -> None:
        state = self.rng.choice(["Enabled", "Suspended"])
        do(self.shard, SetVersioning(bucket=BUCKET, state=state))
        self.model.versioning = state

    def put(self) -> None:
        key = self.rng.choice(KEYS)
        data = self.rng.randbytes(self.rng.choice([0, 3, 600]))
        etag = f"e{self.rng.randrange(4)}"
        if_match = self.rng.choice(["", "", "", "", "*", "e1"])
        if_none = self.rng.choice(["", "", "", "", "*", "e2"])
        current = self.model.current(key)
        wanted: type[Exception] | None = None
        if if_match and current is None:
            wanted = KeyMissingError
        elif (if_match == "e1" and current and current.etag != "e1") or (
            if_none and current and if_none in ("*", current.etag)
        ):
            wanted = ConditionFailedError
        mutation = put(key, data, etag=etag, if_match=if_match, if_none_match=if_none)
        if wanted is not None:
            with pytest.raises(wanted):
                do(self.shard, mutation)
            return
        written = do(self.shard, mutation)
        assert isinstance(written, Written)
        self.note(key, written.version_id, etag, len(data))

    def note(self, key: bytes, version_id: str, etag: str, size: int) -> None:
        assert (version_id == "") == (self.model.versioning == "")
        assert (version_id == "null") == (self.model.versioning == "Suspended")
        self.model.write(key, Version(version_id or "null", etag, size, marker=False))
        self.known.append((key, version_id or "null"))

    def delete(self) -> None:
        key = self.rng.choice(KEYS)
        deleted = do(self.shard, DeleteKey(bucket=BUCKET, key=key, owner=OWNER))
        assert isinstance(deleted, Deleted)
        assert deleted.delete_marker == bool(self.model.versioning)
        assert deleted.found == (key in self.model.keys)
        self.model.delete(key, deleted.version_id)
        if deleted.delete_marker:
            self.known.append((key, deleted.version_id))

    def delete_version(self) -> None:
        if not self.known:
            return
        key, version_id = self.rng.choice([*self.known[-20:], (self.rng.choice(KEYS), "null")])
        deleted = do(self.shard, DeleteVersion(bucket=BUCKET, key=key, version_id=version_id))
        assert isinstance(deleted, Deleted)
        assert deleted.found == self.model.delete_version(key, version_id)

    def create_upload(self) -> None:
        key = self.rng.choice(KEYS)
        upload = do(self.shard, CreateUpload(bucket=BUCKET, key=key, owner=OWNER))
        assert isinstance(upload, Upload)
        self.model.uploads[upload.upload_id] = (key, {})

    def put_part(self) -> None:
        if not self.model.uploads:
            return
        upload_id = self.rng.choice(list(self.model.uploads))
        key, parts = self.model.uploads[upload_id]
        number, size = self.rng.randrange(1, 5), self.rng.randrange(1, 700)
        etag = f"p{self.rng.randrange(100)}"
        do(
            self.shard,
            PutPart(
                bucket=BUCKET, key=key, upload_id=upload_id, number=number, size=size, etag=etag,
                data=bytes(size),
            ),
        )  # fmt: skip
        parts[number] = (etag, size)

    def complete(self) -> None:
        if not self.model.uploads:
            return
        upload_id = self.rng.choice(list(self.model.uploads))
        key, parts = self.model.uploads[upload_id]
        chosen = sorted(self.rng.sample(sorted(parts), self.rng.randrange(len(parts) + 1)))
        request = CompleteUpload(
            bucket=BUCKET, key=key, upload_id=upload_id, etag="whole", attributes=Attributes(),
            parts=tuple(CompletedPart(number, parts[number][0]) for number in chosen),
        )  # fmt: skip
        if not chosen:
            with pytest.raises(Refused):
                do(self.shard, request)
            return
        written = do(self.shard, request)
        assert isinstance(written, Written)
        assert written.size == sum(parts[number][1] for number in chosen)
        del self.model.uploads[upload_id]
        self.note(key, written.version_id, "whole", written.size)
        assert do(self.shard, request) == written, "repeating it is answered alike"

    def abort(self) -> None:
        if not self.model.uploads:
            return
        upload_id = self.rng.choice(list(self.model.uploads))
        key, _ = self.model.uploads.pop(upload_id)
        request = AbortUpload(bucket=BUCKET, key=key, upload_id=upload_id)
        do(self.shard, request)
        with pytest.raises(UploadMissingError):
            do(self.shard, request)


def assert_same(shard: Shard, model: ModelBucket, rng: random.Random) -> None:
    """Look-ups, usage and listings in pages of any size show what the model holds."""
    view = shard.view
    for key in KEYS:
        for version in model.keys.get(key, []):
            found = reads.lookup(view, BUCKET, key, version.version_id)
            assert found is not None
            assert (found.etag, found.size) == (version.etag, version.size)
            assert found.delete_marker == version.marker
    usage = reads.bucket_state(view, BUCKET).usage
    assert (usage.objects, usage.versions, usage.size_bytes, usage.uploads) == model.usage()
    assert list(usage_differences(view)) == []
    prefix, delimiter = rng.choice(PREFIXES), rng.choice([b"", b"/", b"/1"])
    after, limit = rng.choice([b"", *KEYS, b"a/b/"]), rng.randrange(1, 6)
    assert page_objects(view, prefix, after, delimiter, limit) == model.objects(
        prefix, after, delimiter
    )
    assert page_versions(view, prefix, delimiter, limit) == model.versions(prefix, delimiter)
    assert page_uploads(view, prefix, delimiter, limit) == uploads_of(model, prefix, delimiter)


def page_objects(view, prefix, after, delimiter, limit):
    entries, more = [], True
    while more:
        page = listing.list_objects(view, BUCKET, prefix, after, delimiter, limit)
        told = sorted([row[0] for row in page.objects] + page.prefixes)
        assert len(told) == limit or not page.truncated
        entries += told
        after, more = page.next_after, page.truncated
    return entries


def page_versions(view, prefix, delimiter, limit):
    entries, key, name, more = [], b"", "", True
    while more:
        page = listing.list_versions(view, BUCKET, prefix, key, name, delimiter, limit)
        before = [page.continued, *(row[0] for row in page.versions)]
        told = [
            (row[0], row[1], row[0] != seen)
            for row, seen in zip(page.versions, before, strict=False)
        ]
        told += [(one, "", False) for one in page.prefixes]
        assert len(told) == limit or not page.truncated
        entries += sorted(told, key=lambda one: one[0])
        key, name, more = page.next_key, page.next_version_id, page.truncated
    return entries


def page_uploads(view, prefix, delimiter, limit):
    entries, key, name, more = [], b"", "", True
    while more:
        page = listing.list_uploads(view, BUCKET, prefix, key, name, delimiter, limit)
        entries += [
            (one.key, one.upload_id) if isinstance(one, Upload) else (one, "")
            for one in page.entries
        ]
        key, name, more = page.next_key, page.next_upload_id, page.truncated
    return entries


def uploads_of(model: ModelBucket, prefix: bytes, delimiter: bytes) -> list[tuple[bytes, str]]:
    entries: list[tuple[bytes, str]] = []
    for key, name in sorted((key, name) for name, (key, _) in model.uploads.items()):
        if key.startswith(prefix):
            shared = group(key, prefix, delimiter)
            entry = (key, name) if shared is None else (shared, "")
            if entry not in entries:
                entries.append(entry)
    return entries


@pytest.mark.parametrize("seed", range(12))
def test_shard_behaves_like_the_model_and_replay_gives_the_same_rows(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES_MIN", 1)
    rng = random.Random(seed)
    store = MemoryStore()
    driver = Driver(opened_bucket(store), rng)
    if seed % 3:
        driver.set_versioning()
    for number in range(300):
        driver.step()
        if number % 10 == 0:
            assert_same(driver.shard, driver.model, rng)
    before = dump(driver.shard)
    again = memory_shard(store)
    assert dump(again) == before
    assert_same(again, driver.model, rng)
