"""Keys and buckets through the admin API and `objectstore key`, `objectstore bucket`."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from objectstore_app.s3_adapter.admin_openapi import DOCUMENT

from .conftest import make_client
from .raw import Raw
from .server import Keys, Server, chunk_bytes, embedded_server

MIB = 1024 * 1024


def objectstore(
    server: Server, *arguments: str, keys: Keys | None = None
) -> subprocess.CompletedProcess[str]:
    used = keys or server.root
    return subprocess.run(
        [sys.executable, "-m", "objectstore_app", *arguments, "--endpoint", server.endpoint],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            **os.environ,
            "OBJECTSTORE_ACCESS_KEY": used.access_key,
            "OBJECTSTORE_SECRET_KEY": used.secret_key,
        },
    )


def told(server: Server, *arguments: str) -> dict:
    done = objectstore(server, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_key_is_added_rotated_and_retired(server: Server, s3: S3Client, bucket: str) -> None:
    name = f"k-{secrets.token_hex(4)}"
    [first] = told(server, "key", "add", name)["versions"]
    assert first["active"]
    again = objectstore(server, "key", "add", name)
    assert (again.returncode, "KeyExists" in again.stderr) == (1, True)
    s3.put_object(
        Bucket=bucket, Key="k", Body=b"body", ServerSideEncryption="aws:kms", SSEKMSKeyId=name
    )
    old, new = told(server, "key", "rotate", name)["versions"]
    assert (old["id"], old["active"], old["data_keys"]) == (first["id"], False, 1)
    assert (new["active"], new["data_keys"]) == (True, 0)
    refused = objectstore(server, "key", "retire", name, str(old["id"]))
    assert (refused.returncode, "KeyInUse" in refused.stderr) == (1, True)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
    s3.put_object(
        Bucket=bucket, Key="k", Body=b"new", ServerSideEncryption="aws:kms", SSEKMSKeyId=name
    )
    [left] = told(server, "key", "retire", name, str(old["id"]))["versions"]
    assert (left["id"], left["data_keys"]) == (new["id"], 1)
    active = objectstore(server, "key", "retire", name, str(new["id"]))
    assert (active.returncode, "KeyInUse" in active.stderr) == (1, True)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"
    shown = objectstore(server, "key", "list").stdout
    assert f"{name}\t{new['id']}\tactive\t" in shown


@pytest.mark.parametrize("name", ["", "a b", "x/y", "n" * 129, ".hidden"])
def test_bad_key_name_is_refused(raw: Raw, name: str) -> None:
    answer = raw("POST", "/_admin/v1/keys", json.dumps({"name": name}).encode())
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "InvalidArgument")


def test_admin_api_refuses_what_is_not_there(raw: Raw, bucket: str) -> None:
    for method, target, status, code in (
        ("POST", "/_admin/v1/keys/none/rotate", 404, "NoSuchKey"),
        ("DELETE", "/_admin/v1/keys/none/versions/1", 404, "NoSuchKey"),
        ("DELETE", "/_admin/v1/keys/none/versions/x", 404, "NotFound"),
        ("GET", "/_admin/v1/keys/none", 404, "NotFound"),
        ("DELETE", "/_admin/v1/keys", 405, "MethodNotAllowed"),
        ("GET", "/_admin/v1/keys/none/rotate", 405, "MethodNotAllowed"),
        ("GET", "/_admin/v1/keys/none/versions/1", 405, "MethodNotAllowed"),
        ("GET", "/_admin/v1/buckets/none-such", 404, "NoSuchBucket"),
        ("GET", "/_admin/v1/buckets", 404, "NotFound"),
        ("DELETE", f"/_admin/v1/buckets/{bucket}", 405, "MethodNotAllowed"),
    ):
        answer = raw(method, target)
        assert (answer.status, json.loads(answer.body)["code"]) == (status, code), target
    for body in (b"", b"[]", b'{"compression": "lz4"}', b'{"other": 1}'):
        answer = raw("PATCH", f"/_admin/v1/buckets/{bucket}", body)
        assert (answer.status, json.loads(answer.body)["code"]) == (400, "MalformedJSON")


def test_only_administrators_see_keys_and_buckets(
    server: Server, alt_keys: Keys, bucket: str
) -> None:
    other = Raw(server, alt_keys)
    for target in ("/_admin/v1/keys", f"/_admin/v1/buckets/{bucket}"):
        assert other("GET", target).status == 403
        assert Raw(server, None)("GET", target).status == 401


def test_compressed_bucket_reads_as_any_other(server: Server, s3: S3Client, bucket: str) -> None:
    assert told(server, "bucket", "show", bucket)["compression"] == "none"
    assert told(server, "bucket", "set", bucket, "--compression", "zstd")["compression"] == "zstd"
    bodies = {
        "tiny": b"tiny" * 30,
        "small": b"small row of a table\n" * 1000,
        "large": b"large row of a table\n" * 400_000,
        "noise": os.urandom(3 * MIB),
        "mixed": os.urandom(2 * MIB) + b"row" * MIB,
    }
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    for key, body in bodies.items():
        got = s3.get_object(Bucket=bucket, Key=key)
        assert (got["ContentLength"], got["Body"].read()) == (len(body), body)
        assert "ServerSideEncryption" not in got
        for start in (0, len(body) // 2, len(body) - 5):
            part = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + 4}")
            assert part["Body"].read() == body[start : start + 5]
    shown = told(server, "bucket", "show", bucket)
    assert shown["size_bytes"] == sum(map(len, bodies.values()))
    assert shown["objects"] == len(bodies)
    assert told(server, "bucket", "set", bucket, "--compression", "default")["name"] == bucket
    assert told(server, "bucket", "show", bucket)["compression"] == "none"


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with embedded_server(tmp_path) as server:
        yield server


def test_compressed_bucket_takes_less_room(own_server: Server, tmp_path: Path) -> None:
    s3 = make_client(own_server, own_server.root)
    s3.create_bucket(Bucket="bucket")
    told(own_server, "bucket", "set", "bucket", "--compression", "zstd")
    s3.put_object(Bucket="bucket", Key="k", Body=b"row of a table " * (20 * MIB // 15))
    assert 0 < chunk_bytes(tmp_path / "data") < 8 * MIB


def test_rotation_under_load_loses_nothing(server: Server, bucket: str) -> None:
    name = f"k-{secrets.token_hex(4)}"
    told(server, "key", "add", name)
    stop = threading.Event()
    written: dict[str, bytes] = {}

    def load(worker: int) -> None:
        s3 = make_client(server, server.root)
        number = 0
        while not stop.is_set() or number < 5:
            key, body = f"{worker}-{number}", os.urandom(200 + 40_000 * (number % 5))
            s3.put_object(
                Bucket=bucket, Key=key, Body=body, ServerSideEncryption="aws:kms", SSEKMSKeyId=name
            )
            written[key] = body
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body
            number += 1

    raw = Raw(server, server.root)
    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(load, worker) for worker in range(3)]
        try:
            for _ in range(8):
                assert raw("POST", f"/_admin/v1/keys/{name}/rotate").status == 200
        finally:
            stop.set()
        for one in loads:
            one.result()
    s3 = make_client(server, server.root)
    for key, body in written.items():
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body


def test_every_path_of_the_description_is_served(raw: Raw, bucket: str) -> None:
    served = json.loads(raw("GET", "/_admin/v1/openapi.json").body)
    assert served["paths"].keys() == DOCUMENT["paths"].keys()
    for path, methods in served["paths"].items():
        target = path.format(who="nobody", name=bucket, id="1")
        allowed = {method.upper() for method in methods if method != "parameters"}
        answer = raw("TRACE", target)
        assert answer.status == 405, path
        assert set(answer.headers["allow"].split(", ")) == allowed
