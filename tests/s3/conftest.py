"""One server for the whole folder; a fresh bucket for each test that asks for one."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import botocore
import pytest
from botocore.client import Config
from mypy_boto3_s3 import S3Client

from .raw import Raw
from .server import Keys, Server, running_server

MakeBucket = Callable[..., str]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="objectstore-s3-") as folder,
        running_server(Path(folder)) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def alt_keys(server: Server) -> Iterator[Keys]:
    """A second person, no administrator."""
    root = Raw(server, server.root)
    email = f"alt-{secrets.token_hex(6)}@example.com"
    body = json.dumps({"email": email, "name": "alt"}).encode()
    answer = root("POST", "/_admin/v1/users", body)
    assert answer.status == 201, answer.body
    added = json.loads(answer.body)
    yield Keys(added["access_key"], added["secret_key"])
    root("DELETE", f"/_admin/v1/users/{added['id']}")


def make_client(server: Server, keys: Keys | None, **settings: object) -> S3Client:
    options: dict[str, object] = {
        "s3": {"addressing_style": "path"},
        "retries": {"max_attempts": 0},
        "read_timeout": 30,
        "signature_version": "s3v4",
        **settings,
    }
    if keys is None:
        options["signature_version"] = botocore.UNSIGNED
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=keys.access_key if keys else "none",
        aws_secret_access_key=keys.secret_key if keys else "none",
        region_name="us-east-1",
        verify=False,
        config=Config(**options),
    )


@pytest.fixture(scope="session")
def s3(server: Server) -> S3Client:
    return make_client(server, server.root)


@pytest.fixture(scope="session")
def alt(server: Server, alt_keys: Keys) -> S3Client:
    return make_client(server, alt_keys)


@pytest.fixture(scope="session")
def anonymous(server: Server) -> S3Client:
    return make_client(server, None)


@pytest.fixture(scope="session")
def raw(server: Server) -> Raw:
    return Raw(server, server.root)


@pytest.fixture(scope="session")
def raw_anonymous(server: Server) -> Raw:
    return Raw(server, None)


@pytest.fixture
def make_bucket(s3: S3Client) -> Iterator[MakeBucket]:
    """Makes buckets of the first user and empties and removes them afterwards."""
    names: list[str] = []

    def make(**arguments: object) -> str:
        name = f"t-{secrets.token_hex(8)}"
        s3.create_bucket(Bucket=name, **arguments)
        names.append(name)
        return name

    yield make
    for name in names:
        remove_bucket(s3, name)


@pytest.fixture
def bucket(make_bucket: MakeBucket) -> str:
    return make_bucket()


@pytest.fixture
def versioned(make_bucket: MakeBucket, s3: S3Client) -> str:
    name = make_bucket()
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def remove_bucket(s3: S3Client, name: str) -> None:
    """Remove every version, upload and then the bucket; it may be gone already."""
    try:
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=name)
        for page in pages:
            for version in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                s3.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"])
        s3.delete_bucket(Bucket=name)
    except s3.exceptions.NoSuchBucket:
        return
