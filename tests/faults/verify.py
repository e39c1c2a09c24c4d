"""Reading everything back: what each key holds, what the listings say, and that both agree."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote
from xml.etree.ElementTree import Element

from .client import NAMESPACE, Client, path, text
from .ledger import MARKER, Change, Key, Ledger, OwnBucket, Version
from .load import change_bucket, check_read, complete

READERS = 4
PAGE_KEYS = 37
VERSIONS_SAMPLED = 15

# (version id, ETag, size) of a version, newest first; ETag and size are empty for a delete marker.
Listed = tuple[str, str, str]


def verify(
    connect: Callable[[], Client], ledgers: list[Ledger], rng: random.Random | None = None
) -> None:
    """Every acknowledged change is there, every unsure one is there whole or not at all; which of
    the two becomes the ledgers' truth. With `rng` only a sample of old versions is read back, else
    all of them. All ledgers have the same buckets.
    """
    client, plain, versioned = connect(), ledgers[0].plain, ledgers[0].versioned
    try:
        for ledger in ledgers:
            repeat_unsure(client, ledger)
        verify_buckets(client, [ledger.bucket for ledger in ledgers])
        objects = listed_objects(client, plain)
        versions = listed_versions(client, versioned)
    finally:
        client.close()
    with ThreadPoolExecutor(READERS) as readers:
        seeds = [None if rng is None else rng.randrange(1 << 30) for _ in ledgers]
        checks = [
            readers.submit(_verify_keys, connect, ledger, objects, versions, seed)
            for ledger, seed in zip(ledgers, seeds, strict=True)
        ]
        for check in checks:
            check.result()
    known = {place for ledger in ledgers for place in ledger.keys}
    strange = {(plain, name) for name in objects} | {(versioned, name) for name in versions}
    assert strange <= known, f"nobody wrote {sorted(strange - known)}"


def repeat_unsure(client: Client, ledger: Ledger) -> None:
    """As an SDK retries: what may be repeated is, and must come out as if it had been done once."""
    for upload in ledger.completing:
        key = ledger.keys[upload.bucket, upload.key]
        assert key.pending == Change(upload.write.number)
        version_id = complete(client, upload).headers.get("x-amz-version-id", "")
        key.settle(key.pending, version_id, versioned=upload.bucket == ledger.versioned)
    ledger.completing.clear()
    if ledger.bucket.pending is not None:
        change_bucket(client, ledger.bucket, again=True)


def verify_buckets(client: Client, own: list[OwnBucket]) -> None:
    """A bucket that was made can be used, one that was removed is gone, ListBuckets says so too."""
    listed = {text(each, "Name") for each in client("GET", "/").xml.iter(f"{NAMESPACE}Bucket")}
    for bucket in own:
        assert (bucket.name in listed) == bucket.exists, f"{bucket} in {listed}"
        expected = (200, 200, 204) if bucket.exists else (404, 404, 404)
        target = path(bucket.name, "key")
        found = tuple(client(method, target).status for method in ("PUT", "HEAD", "DELETE"))
        assert found == expected, f"{bucket}: {found}"


def _verify_keys(
    connect: Callable[[], Client],
    ledger: Ledger,
    objects: dict[str, Listed],
    versions: dict[str, list[Listed]],
    seed: int | None,
) -> None:
    client = connect()
    try:
        for (bucket, name), key in ledger.keys.items():
            if bucket == ledger.plain:
                _verify_plain(client, ledger, name, key, objects.get(name))
            else:
                _verify_versions(client, ledger, name, key, versions.get(name, []))
        olds = [
            (name, version)
            for (bucket, name), key in ledger.keys.items()
            for version in key.versions
            if bucket == ledger.versioned and version.number != MARKER
        ]
        if seed is not None:
            olds = random.Random(seed).sample(olds, min(VERSIONS_SAMPLED, len(olds)))
        for name, version in olds:
            answer = client("GET", path(ledger.versioned, name, version.id))
            check_read(f"version {version.id} of {name}", answer, ledger, version.number)
        for upload in ledger.uploads:
            target = f"{path(upload.bucket, upload.key)}?uploadId={upload.id}"
            etags = [text(part, "ETag").strip('"') for part in
                     client("GET", target).xml.iter(f"{NAMESPACE}Part")]  # fmt: skip
            assert etags == upload.part_etags, f"parts of {upload}: {etags}"
    finally:
        client.close()


def _verify_plain(
    client: Client, ledger: Ledger, name: str, key: Key, listed: Listed | None
) -> None:
    what = f"{ledger.plain}/{name}"
    answer = client("GET", path(ledger.plain, name))
    found = MARKER if answer.status == 404 else int(answer.headers.get("x-amz-meta-number", "-2"))
    if key.pending and found == key.pending.number:
        key.settle(key.pending, "", versioned=False)
    key.pending = None
    check_read(what, answer, ledger, key.current)
    if key.current == MARKER:
        assert listed is None, f"{what} is listed and cannot be read"
    else:
        write = ledger.writes[key.current]
        assert listed == ("", write.etag(), str(write.size)), f"{what} is listed as {listed}"


def _verify_versions(
    client: Client, ledger: Ledger, name: str, key: Key, listed: list[Listed]
) -> None:
    what = f"{ledger.versioned}/{name}"
    ids = [version_id for version_id, _, _ in reversed(listed)]
    held = [version.id for version in key.versions]
    pending = key.pending
    if pending and ids != held:
        if pending.removes:
            key.settle(pending, "", versioned=True)
        elif ids[:-1] == held:
            key.settle(pending, ids[-1], versioned=True)
        held = [version.id for version in key.versions]
    key.pending = None
    assert ids == held, f"{what}: versions {ids}, not {held} (pending was {pending})"
    wanted = [_as_listed(ledger, version) for version in reversed(key.versions)]
    assert listed == wanted, f"{what} is listed as {listed}, not {wanted}"
    check_read(what, client("GET", path(ledger.versioned, name)), ledger, key.current)


def _as_listed(ledger: Ledger, version: Version) -> Listed:
    if version.number == MARKER:
        return version.id, "", ""
    write = ledger.writes[version.number]
    return version.id, write.etag(), str(write.size)


# --- listings ---


def listed_objects(client: Client, bucket: str) -> dict[str, Listed]:
    """All objects of a bucket without versions, page by page."""
    found: dict[str, Listed] = {}
    token = ""
    while True:
        after = f"&continuation-token={quote(token, safe='')}" if token else ""
        page = client("GET", f"/{bucket}?list-type=2&max-keys={PAGE_KEYS}{after}").xml
        for entry in page.iter(f"{NAMESPACE}Contents"):
            name = text(entry, "Key")
            assert name not in found, f"{name} is listed twice"
            found[name] = ("", text(entry, "ETag").strip('"'), text(entry, "Size"))
        if text(page, "IsTruncated") != "true":
            assert list(found) == sorted(found), "the listing is out of order"
            return found
        token = text(page, "NextContinuationToken")


def listed_versions(client: Client, bucket: str) -> dict[str, list[Listed]]:
    """All versions and delete markers of a versioned bucket by key, newest first."""
    found: dict[str, list[Listed]] = {}
    for page in _version_pages(client, bucket):
        for entry in page:
            if entry.tag not in (f"{NAMESPACE}Version", f"{NAMESPACE}DeleteMarker"):
                continue
            row = (text(entry, "VersionId"), text(entry, "ETag").strip('"'), text(entry, "Size"))
            rows = found.setdefault(text(entry, "Key"), [])
            latest = "true" if not rows else "false"
            assert text(entry, "IsLatest") == latest, f"IsLatest of {row}"
            rows.append(row)
    return found


def _version_pages(client: Client, bucket: str) -> Iterator[Element]:
    after = ""
    while True:
        page = client("GET", f"/{bucket}?versions&max-keys={PAGE_KEYS}{after}").xml
        yield page
        if text(page, "IsTruncated") != "true":
            return
        key = quote(text(page, "NextKeyMarker"), safe="")
        version_id = quote(text(page, "NextVersionIdMarker"), safe="")
        after = f"&key-marker={key}&version-id-marker={version_id}"
