"""The conversations that are more than one prepared request: uploads, walks, deletions."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator
from urllib.parse import quote

from .conversation import Answer, Ask, Conversation
from .outcome import CaseError
from .signing import Signer
from .systems import BUCKET
from .wrk import Prepared, random_bytes

MIB = 1024 * 1024
PARTS = 8
PART_BYTES = 8 * MIB
PAGE_KEYS = 1000
STAMP_BYTES = 16


class Part:
    """A part of an upload: random bytes with a stamp in each MiB, so that no two are equal."""

    def __init__(self, *, text: bool = False) -> None:
        self.content = bytearray(random_bytes(MIB, 64, text=text) * (PART_BYTES // MIB))

    def stamp(self, upload: int, number: int) -> bytearray:
        """Make it part `number` of upload `upload`."""
        for at in range(0, PART_BYTES, MIB):
            stamp = b"%0*x" % (STAMP_BYTES, (upload * PARTS + number) * PART_BYTES + at)
            self.content[at : at + STAMP_BYTES] = stamp
        return self.content


def upload_target(number: int) -> str:
    return f"/{BUCKET}/64m/{number:06d}"


def upload_digest(number: int, part: Part) -> str:
    """The SHA-256 of what upload `number` makes of such parts."""
    state = hashlib.sha256()
    for index in range(1, PARTS + 1):
        state.update(part.stamp(number, index))
    return state.hexdigest()


def uploads(signer: Signer, numbers: Iterator[int], part: Part) -> Conversation:
    """Multipart uploads, each one operation; the parts' bodies are not signed."""
    for number in numbers:
        target = upload_target(number)
        answer = yield Ask((signer.post(f"{target}?uploads="),), completes=False, keep=True)
        found = re.search(rb"<UploadId>([^<]+)</UploadId>", answer.body)
        if not found:
            raise CaseError(f"no upload id in {answer.body[:200]!r}")
        upload = quote(html.unescape(found[1].decode()), safe="-_.~")
        parts = ""
        for index in range(1, PARTS + 1):
            head = signer.unsigned_put(f"{target}?partNumber={index}&uploadId={upload}", PART_BYTES)
            answer = yield Ask((head, part.stamp(number, index)), completes=False)
            etag = re.search(rb"(?im)^etag: *(\S+)", answer.head)
            if not etag:
                raise CaseError(f"a part has no ETag: {answer.head[:300]!r}")
            tag = etag[1].decode()
            parts += f"<Part><PartNumber>{index}</PartNumber><ETag>{tag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = yield Ask((signer.post(f"{target}?uploadId={upload}", body),), keep=True)
        if b"<Error>" in answer.body:
            raise CaseError(f"an upload was not completed: {answer.body[:300]!r}")


def puts(prepared: Prepared, numbers: Iterator[int]) -> Conversation:
    """Prepared PUTs over and over, their bodies sent from where they lie."""
    for number in numbers:
        index = number % len(prepared.heads)
        yield Ask((prepared.heads[index], prepared.shared, prepared.endings[index]))


TOKEN = b"<NextContinuationToken>"
TOKEN_WITHIN = 8192


def walk(signer: Signer, bucket: str) -> Conversation:
    """List the whole bucket page by page, over and over; each page is an operation."""
    while True:
        yield from one_walk(signer, bucket, None)


def checked_walk(signer: Signer, bucket: str, keys: int) -> Conversation:
    """List the bucket once. Raises: CaseError when that does not give `keys` different keys."""
    pages: list[bytes] = []
    yield from one_walk(signer, bucket, pages)
    found = {key for page in pages for key in re.findall(rb"<Key>([^<]*)</Key>", page)}
    if len(found) != keys:
        raise CaseError(f"a walk gave {len(found)} keys of {keys}")


def one_walk(signer: Signer, bucket: str, pages: list[bytes] | None) -> Conversation:
    """Follow the continuation tokens from the first page to the last; adds them to `pages`."""
    token = ""
    while True:
        query = f"{token}list-type=2&max-keys={PAGE_KEYS}"
        answer = yield Ask((signer.head("GET", f"/{bucket}?{query}"),), keep=True)
        if pages is not None:
            pages.append(answer.body)
        text = next_token(answer)
        if not text:
            return
        token = f"continuation-token={quote(text, safe='-_.~')}&"


def next_token(answer: Answer) -> str:
    """The continuation token of a page, which servers put before or after the keys; "" of none.

    A page is a third of a megabyte: it is not put together for this where that is not needed.
    """
    pieces = (answer.body,) if answer.chunked else answer.pieces
    for text in (first_bytes(pieces), last_bytes(pieces)):
        at = text.find(TOKEN)
        end = text.find(b"<", at + len(TOKEN))
        if at >= 0 and end >= 0:
            return html.unescape(text[at + len(TOKEN) : end].decode())
    return ""


def first_bytes(pieces: tuple[bytes, ...]) -> bytes:
    """The first TOKEN_WITHIN bytes of what the pieces make up."""
    found = b""
    for piece in pieces:
        found += piece[: TOKEN_WITHIN - len(found)]
        if len(found) == TOKEN_WITHIN:
            break
    return found


def last_bytes(pieces: tuple[bytes, ...]) -> bytes:
    """The last TOKEN_WITHIN bytes of what the pieces make up."""
    found = b""
    for piece in reversed(pieces):
        found = piece[max(len(piece) - TOKEN_WITHIN + len(found), 0) :] + found
        if len(found) == TOKEN_WITHIN:
            break
    return found


def deletions(signer: Signer, bucket: str, batches: Iterator[list[str]]) -> Conversation:
    """DeleteObjects; each batch of keys is one operation."""
    for keys in batches:
        objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
        body = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
        answer = yield Ask((signer.post(f"/{bucket}?delete=", body),), keep=True)
        if b"<Error>" in answer.body:
            raise CaseError(f"a key was not deleted: {answer.body[:300]!r}")
