"""The store that the end-to-end tests speak to, over HTTP and HTTPS, and two people who use it.

A store is started in a temporary folder unless `OBJECTSTORE_TEST_ENDPOINT`, `…_ENDPOINT_HTTPS`,
`…_ACCESS_KEY` and `…_SECRET_KEY` (an administrator's) name one. Its certificate is verified with
the authority in `OBJECTSTORE_TEST_CA`; without one each client is told not to verify.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from mypy_boto3_s3 import S3Client

from tests.e2e.clients import Program
from tests.s3.conftest import remove_bucket
from tests.s3.server import Keys, running_server


@dataclass(frozen=True)
class Endpoint:
    """One way to the store; `authority` is the certificate to trust, empty: do not verify."""

    url: str
    authority: str = ""

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def secure(self) -> bool:
        return self.url.startswith("https:")


@dataclass(frozen=True)
class Store:
    http: Endpoint
    https: Endpoint
    administrator: Keys


@dataclass(frozen=True)
class Person:
    id: str
    email: str
    keys: Keys


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    with (
        tempfile.TemporaryDirectory(prefix="objectstore-lab-") as folder,
        running_server(Path(folder)) as server,
    ):
        url = server.endpoint
        own = str(Path(folder) / "data" / "tls" / "cert.pem") if server.pid else ""
        https = os.environ.get("OBJECTSTORE_TEST_ENDPOINT_HTTPS", "") or url.replace(
            "http:", "https:"
        )
        authority = os.environ.get("OBJECTSTORE_TEST_CA", own)
        yield Store(Endpoint(url), Endpoint(https.rstrip("/"), authority), server.root)


@pytest.fixture(scope="session", params=["http", "https"])
def endpoint(request: pytest.FixtureRequest, store: Store) -> Endpoint:
    """Every test that asks for it runs twice."""
    return store.https if request.param == "https" else store.http


@pytest.fixture(scope="session")
def objectstore(store: Store) -> Program:
    """The operator's command, as the store's administrator."""
    return Program(
        [sys.executable, "-m", "objectstore_app"],
        {
            "OBJECTSTORE_ENDPOINT": store.http.url,
            "OBJECTSTORE_ACCESS_KEY": store.administrator.access_key,
            "OBJECTSTORE_SECRET_KEY": store.administrator.secret_key,
        },
    )


AddPerson = Callable[[str], Person]


@pytest.fixture(scope="session")
def add_person(objectstore: Program) -> Iterator[AddPerson]:
    added: list[str] = []

    def add(name: str) -> Person:
        email = f"{name}-{secrets.token_hex(4)}@example.com"
        answer = json.loads(objectstore("user", "add", email, "--name", name, "--json"))
        added.append(email)
        return Person(answer["id"], email, Keys(answer["access_key"], answer["secret_key"]))

    yield add
    for email in added:
        objectstore("user", "remove", email)


@pytest.fixture(scope="session")
def anna(add_person: AddPerson) -> Person:
    return add_person("anna")


@pytest.fixture(scope="session")
def ben(add_person: AddPerson) -> Person:
    return add_person("ben")


def s3_client(endpoint: Endpoint, keys: Keys) -> S3Client:
    """boto3 as an application would make it, with its default retries."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        region_name="us-east-1",
        verify=(endpoint.authority or False) if endpoint.secure else None,
        config=Config(connect_timeout=10, read_timeout=60),
    )


@pytest.fixture
def bucket_name(endpoint: Endpoint, anna: Person) -> Iterator[str]:
    """A name for a bucket that the test makes as Anna; removed with what it holds afterwards."""
    name = f"lab-{secrets.token_hex(6)}"
    yield name
    remove_bucket(s3_client(endpoint, anna.keys), name)


@pytest.fixture
def bucket(endpoint: Endpoint, anna: Person, bucket_name: str) -> str:
    """A bucket of Anna's."""
    s3_client(endpoint, anna.keys).create_bucket(Bucket=bucket_name)
    return bucket_name
