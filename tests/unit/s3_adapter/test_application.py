"""The application over services that fail: what a client is told, and what happens in which order.

The services are the real ones in memory; single calls of them are replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import pytest

from objectstore_app.core.errors import InvariantError
from objectstore_app.iam.identity import new_identity
from objectstore_app.iam.keyring import Keyring
from objectstore_app.media.errors import CorruptDataError, MediaFullError
from objectstore_app.media.memory import MemoryChunks, MemoryStore
from objectstore_app.metadata_service.api import Bucket, CloseBucket, RemoveBucket
from objectstore_app.metadata_service.errors import UnavailableError
from objectstore_app.metadata_service.memory import memory_service
from objectstore_app.object_controller.people import add_person, ensure_first_administrator
from objectstore_app.protocol.routing import IMPLEMENTED
from objectstore_app.protocol.sigv4_signer import sign_request
from objectstore_app.runtime.http import Request, Response
from objectstore_app.s3_adapter.app import OPERATIONS, application
from objectstore_app.s3_adapter.services import Services

ACCESS, SECRET = "ROOTACCESS", "root-secret-key"


class Bytes:
    """A request body that remembers whether it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.length: int | None = len(data)
        self._data = data
        self.asked = False

    async def read(self) -> bytes:
        self.asked = True
        data, self._data = self._data, b""
        return data


class FullChunks(MemoryChunks):
    """A medium without room."""

    def begin(self, length: int) -> NoReturn:
        raise MediaFullError("begin chunk")


class Failing:
    """Passes everything on to `inner`, but the named calls raise."""

    def __init__(self, inner: object, failures: dict[str, Exception]) -> None:
        self._inner = inner
        self._failures = failures

    def __getattr__(self, name: str) -> object:
        failure = self._failures.get(name)
        if failure is None:
            return getattr(self._inner, name)

        async def fail(*_: object, **__: object) -> None:
            raise failure

        return fail


class Store:
    """A store with one administrator and the bucket `bucket`."""

    def __init__(self) -> None:
        parts = memory_service()
        self.services = Services(parts.client, parts.reader, parts.chunks, Keyring(bytes(32)))

    async def start(self) -> Store:
        made = await ensure_first_administrator(
            self.services.metadata, self.services.keyring, ACCESS, SECRET
        )
        assert made is not None
        assert (await self.send("PUT", "/bucket")).status == 200
        return self

    async def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        return await application(self.services)(self.request(method, target, body, **headers))

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Request:
        sent = {"host": "127.0.0.1", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if method in ("PUT", "POST"):
            sent["content-length"] = str(len(body))
        signed = sign_request(
            method,
            target,
            sent,
            access_key=ACCESS,
            secret=SECRET,
            region="us-east-1",
            now=time.time(),
            payload_hash=hashlib.sha256(body).hexdigest(),
        )
        fields = {name.encode(): value.encode() for name, value in signed.items()}
        return Request(method, target.encode(), fields, Bytes(body), "RID", False, "127.0.0.1")


def run(test: Callable[[Store], object]) -> None:
    async def main() -> None:
        await test(await Store().start())

    asyncio.run(main())


def code_of(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


def test_every_implemented_operation_has_a_function() -> None:
    assert set(OPERATIONS) == IMPLEMENTED


def test_unavailable_metadata_is_503_with_retry_after() -> None:
    async def test(store: Store) -> None:
        down = UnavailableError("mutate")
        store.services = replace(
            store.services, metadata=Failing(store.services.metadata, {"mutate": down})
        )
        answer = await store.send("PUT", "/bucket/k", b"x")
        assert (answer.status, code_of(answer)) == (503, "ServiceUnavailable")
        assert ("Retry-After", "1") in answer.headers

    run(test)


def test_bucket_whose_deletion_a_starting_writer_finishes_is_deleted() -> None:
    """The writer dies between the halves, and starts before the second one is sent."""

    class Restarted(Failing):
        async def mutate(self, bucket: Bucket, mutation: CloseBucket) -> None:
            await self._inner.mutate(bucket, mutation)
            await self._inner.mutate_directory(RemoveBucket(id=bucket.id))

    async def test(store: Store) -> None:
        store.services = replace(store.services, metadata=Restarted(store.services.metadata, {}))
        assert (await store.send("DELETE", "/bucket")).status == 204
        assert (await store.send("DELETE", "/bucket")).status == 404

    run(test)


def test_full_medium_is_507() -> None:
    async def test(store: Store) -> None:
        store.services = replace(store.services, chunks=FullChunks(MemoryStore()))
        answer = await store.send("PUT", "/bucket/k", bytes(300_000))
        assert (answer.status, code_of(answer)) == (507, "InsufficientStorage")
        assert (await store.send("HEAD", "/bucket/k")).status == 404

    run(test)


def test_damaged_bytes_are_500_and_never_sent() -> None:
    async def test(store: Store) -> None:
        await store.send("PUT", "/bucket/k", bytes(100_000))
        corrupt = CorruptDataError("read", "segment 1")
        store.services = replace(
            store.services, reader=Failing(store.services.reader, {"read": corrupt})
        )
        answer = await store.send("GET", "/bucket/k")
        assert (answer.status, code_of(answer)) == (500, "InternalError")

    run(test)


def test_programmers_fault_goes_on_to_the_server() -> None:
    async def test(store: Store) -> None:
        fault = InvariantError("invariant", "broken")
        store.services = replace(
            store.services, metadata=Failing(store.services.metadata, {"lookup": fault})
        )
        with pytest.raises(InvariantError):
            await store.send("GET", "/bucket/k")

    run(test)


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/none-such/k", {}, 404),
        ("/bucket/k", {"x_amz_acl": "nonsense"}, 400),
        ("/bucket/k", {"content_md5": "nonsense"}, 400),
        ("/bucket/k", {"x_amz_checksum_crc32": "nonsense"}, 400),
        ("/bucket/k", {"x_amz_meta_a": "x" * 3000}, 400),
        ("/bucket/k", {"x_amz_server_side_encryption": "nonsense"}, 400),
        ("/bucket/k?partNumber=1&uploadId=none", {}, 404),
    ],
)
def test_refused_put_never_asks_for_its_body(
    target: str, headers: dict[str, str], status: int
) -> None:
    async def test(store: Store) -> None:
        request = store.request("PUT", target, b"body", **headers)
        answer = await application(store.services)(request)
        assert answer.status == status
        assert not request.body.asked

    run(test)


def test_wrong_signature_looks_nothing_up_but_the_key() -> None:
    async def test(store: Store) -> None:
        request = store.request("PUT", "/bucket/k", b"body")
        request.target = b"/bucket/other"
        untouched = Failing(
            store.services.metadata,
            {name: InvariantError("lookup", name) for name in ("bucket", "lookup", "mutate")},
        )
        answer = await application(replace(store.services, metadata=untouched))(request)
        assert (answer.status, code_of(answer)) == (403, "SignatureDoesNotMatch")
        assert not request.body.asked

    run(test)


def test_access_log_line_is_told_operation_bucket_user_and_error() -> None:
    async def test(store: Store) -> None:
        request = store.request("GET", "/bucket/none")
        await application(store.services)(request)
        assert request.note == {
            "operation": "GetObject",
            "bucket": "bucket",
            "user": "admin",
            "error": "NoSuchKey",
        }

    run(test)


def test_first_administrator_is_made_once() -> None:
    async def test(store: Store) -> None:
        services = store.services
        assert await ensure_first_administrator(services.metadata, services.keyring) is None

    run(test)


def test_last_administrator_cannot_be_removed_while_others_can() -> None:
    async def test(store: Store) -> None:
        services = store.services
        other = new_identity("other@example.com")
        await add_person(services.metadata, services.keyring, other, administrator=True)
        assert (await store.send("DELETE", f"/_admin/v1/users/{other.id}")).status == 200
        answer = await store.send("DELETE", f"/_admin/v1/users/{ACCESS}")
        assert isinstance(answer.body, bytes)
        assert (answer.status, json.loads(answer.body)["code"]) == (409, "LastAdministrator")

    run(test)
