"""The load: every kind of write that S3 has, from several threads, each with keys of its own."""

from __future__ import annotations

import base64
import random
import threading
from xml.sax.saxutils import escape

from objectstore_app.core.limits import PART_BYTES_MIN, RECORD_BODY_BYTES_MAX

from .client import NAMESPACE, Answer, Client, LostError, path, text
from .ledger import MARKER, Change, Key, Ledger, OwnBucket, Upload, md5

KEYS = 8
VERSIONS_MAX = 12
UPLOADS_OPEN_MAX = 3
RETRY_S = 0.01
# What DeleteObjects says of a key whose delete may or may not have happened.
NOT_DONE = {"ServiceUnavailable", "SlowDown", "InsufficientStorage"}
_SMALL = (0, 1, 15, 100, 512, 513, 4096, 30_000, RECORD_BODY_BYTES_MAX)
_LARGE = (RECORD_BODY_BYTES_MAX + 1, 300_000, 700_001)


class Worker:
    """Works on its own keys until told to stop; a key whose last change is unsure is left alone."""

    def __init__(
        self,
        name: str,
        ledger: Ledger,
        client: Client,
        seed: int,
        *,
        keys: int = KEYS,
        pause_s: float = 0.0,
    ) -> None:
        """`keys` a bucket; `pause_s` is between two actions. The client is closed at the end."""
        self._name = name
        self._ledger = ledger
        self._client = client
        self._rng = random.Random(seed)
        self._keys = keys
        self._pause_s = pause_s

    def run(self, stop: threading.Event) -> None:
        weighted = {
            self._put: 45, self._delete: 10, self._delete_many: 5, self._copy: 10,
            self._begin_upload: 6, self._complete_upload: 6, self._remove_version: 8,
            self._own_bucket: 3, self._read: 10,
        }  # fmt: skip
        actions, weights = tuple(weighted), tuple(weighted.values())
        try:
            while not stop.is_set():
                action = self._rng.choices(actions, weights)[0]
                try:
                    action()
                except LostError:
                    self._ledger.lost += 1
                    stop.wait(RETRY_S)
                if self._pause_s:
                    stop.wait(self._pause_s)
        finally:
            self._client.close()

    # --- one action each ---

    def _put(self) -> None:
        bucket, name, key = self._pick()
        write = self._ledger.write(
            self._rng.choice(_LARGE if self._rng.random() < 0.12 else _SMALL)
        )
        if key.pending:
            return
        answer = self._change(
            key, Change(write.number), "PUT", path(bucket, name), write.body(),
            {"x-amz-meta-number": str(write.number)},
        )  # fmt: skip
        assert (answer.status, answer.etag) == (200, write.etag()), answer
        self._settle(bucket, key, answer.headers.get("x-amz-version-id", ""))

    def _copy(self) -> None:
        bucket, name, key = self._pick()
        from_bucket, from_name, source = self._pick()
        if key.pending or source.pending or source.current == MARKER:
            return
        original = self._ledger.writes[source.current]
        write = self._ledger.write(original.size, seed=original.seed)
        headers = {
            "x-amz-copy-source": path(from_bucket, from_name),
            "x-amz-metadata-directive": "REPLACE",
            "x-amz-meta-number": str(write.number),
        }
        answer = self._change(key, Change(write.number), "PUT", path(bucket, name), b"", headers)
        assert answer.status == 200, answer
        assert text(answer.xml, "ETag").strip('"') == write.etag(), answer
        self._settle(bucket, key, answer.headers.get("x-amz-version-id", ""))

    def _delete(self) -> None:
        bucket, name, key = self._pick()
        if key.pending:
            return
        answer = self._change(key, Change(MARKER), "DELETE", path(bucket, name))
        assert answer.status == 204, answer
        self._settle(bucket, key, answer.headers.get("x-amz-version-id", ""))

    def _remove_version(self) -> None:
        bucket, name, key = self._pick(self._ledger.versioned)
        if key.pending or not key.versions:
            return
        version_id = self._rng.choice(key.versions).id
        answer = self._change(
            key, Change(MARKER, version_id), "DELETE", path(bucket, name, version_id)
        )
        assert answer.status == 204, answer
        self._settle(bucket, key, "")

    def _delete_many(self) -> None:
        bucket = self._rng.choice((self._ledger.plain, self._ledger.versioned))
        picked = dict(self._pick(bucket)[1:] for _ in range(3))
        picked = {name: key for name, key in picked.items() if not key.pending}
        if not picked:
            return
        objects = "".join(f"<Object><Key>{escape(name)}</Key></Object>" for name in picked)
        body = f"<Delete>{objects}</Delete>".encode()
        for key in picked.values():
            key.pending = Change(MARKER)
        answer = self._client(
            "POST", f"/{bucket}?delete", body,
            {"Content-MD5": base64.b64encode(md5(body)).decode()},
        )  # fmt: skip
        assert answer.status == 200, answer
        told = 0
        for result in answer.xml:
            told += 1
            if result.tag == f"{NAMESPACE}Deleted":
                marker = text(result, "DeleteMarkerVersionId")
                self._settle(bucket, picked[text(result, "Key")], marker)
            else:
                assert text(result, "Code") in NOT_DONE, answer
        assert told == len(picked), answer

    def _begin_upload(self) -> None:
        """Send all parts; a later round may complete it."""
        if len(self._ledger.uploads) >= UPLOADS_OPEN_MAX:
            return
        bucket, name, _ = self._pick()
        last = self._rng.choice((1, 70_000, 200_000))
        parts = (PART_BYTES_MIN, last) if self._rng.random() < 0.15 else (last,)
        write = self._ledger.write(sum(parts), parts)
        target = path(bucket, name)
        answer = self._client(
            "POST", f"{target}?uploads", b"", {"x-amz-meta-number": str(write.number)}
        )
        assert answer.status == 200, answer
        upload = Upload(bucket, name, text(answer.xml, "UploadId"), write, [])
        for number, part in enumerate(write.part_bodies(), 1):
            sent = self._client("PUT", f"{target}?partNumber={number}&uploadId={upload.id}", part)
            assert (sent.status, sent.etag) == (200, md5(part).hex()), sent
            upload.part_etags.append(sent.etag)
        self._ledger.uploads.append(upload)

    def _complete_upload(self) -> None:
        uploads = self._ledger.uploads
        if not uploads or self._key(uploads[0].bucket, uploads[0].key).pending:
            return
        upload = uploads.pop(0)
        key = self._key(upload.bucket, upload.key)
        key.pending = Change(upload.write.number)
        self._ledger.completing.append(upload)
        answer = complete(self._client, upload)
        self._ledger.completing.remove(upload)
        self._settle(upload.bucket, key, answer.headers.get("x-amz-version-id", ""))

    def _own_bucket(self) -> None:
        own = self._ledger.bucket
        if own.pending is not None:
            return
        own.pending = not own.exists
        change_bucket(self._client, own)
        self._ledger.acknowledged += 1

    def _read(self) -> None:
        bucket, name, key = self._pick()
        if not key.pending:
            answer = self._client("GET", path(bucket, name))
            check_read(f"{bucket}/{name}", answer, self._ledger, key.current)

    # --- helpers ---

    def _pick(self, bucket: str = "") -> tuple[str, str, Key]:
        chosen = bucket or self._rng.choice((self._ledger.plain, self._ledger.versioned))
        name = f"{self._name}/key {self._rng.randrange(self._keys):02d}"
        return chosen, name, self._key(chosen, name)

    def _key(self, bucket: str, name: str) -> Key:
        return self._ledger.keys.setdefault((bucket, name), Key())

    def _change(
        self,
        key: Key,
        change: Change,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        key.pending = change
        return self._client(method, target, body, headers)

    def _settle(self, bucket: str, key: Key, version_id: str) -> None:
        assert key.pending is not None
        versioned = bucket == self._ledger.versioned
        assert bool(version_id) == (versioned and not key.pending.removes), "a version id"
        key.settle(key.pending, version_id, versioned=versioned)
        self._ledger.acknowledged += 1


def complete(client: Client, upload: Upload) -> Answer:
    """Complete an upload; doing so again must give the same answer."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(upload.part_etags, 1)
    )
    answer = client(
        "POST",
        f"{path(upload.bucket, upload.key)}?uploadId={upload.id}",
        f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode(),
    )
    assert answer.status == 200, answer
    assert text(answer.xml, "ETag").strip('"') == upload.write.etag(), answer
    return answer


def change_bucket(client: Client, own: OwnBucket, *, again: bool = False) -> None:
    """Make or remove the bucket as `pending` wants; `again` when that may have happened before."""
    assert own.pending is not None
    answer = client("PUT" if own.pending else "DELETE", f"/{own.name}")
    good = {200} if own.pending else {204, 404} if again else {204}
    assert answer.status in good, answer
    own.exists, own.pending = own.pending, None


def check_read(what: str, answer: Answer, ledger: Ledger, number: int) -> None:
    """The answer is the write of this number, byte for byte, or says that there is none."""
    if number == MARKER:
        assert (answer.status, answer.code()) == (404, "NoSuchKey"), f"{what} came back: {answer}"
        return
    assert answer.status == 200, f"{what} should hold {number}: {answer}"
    held = answer.headers["x-amz-meta-number"]
    assert held == str(number), f"{what} holds {held} instead of {number}"
    write = ledger.writes[number]
    assert len(answer.body) == write.size, f"{what}: {len(answer.body)} bytes, not {write.size}"
    assert answer.body == write.body(), f"{what} is torn"
    assert answer.etag == write.etag(), f"{what}: ETag {answer.etag}, not {write.etag()}"
