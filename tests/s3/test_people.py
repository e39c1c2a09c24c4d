"""The admin API and `objectstore user`."""

from __future__ import annotations

import csv
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from .check import refused
from .conftest import make_client
from .raw import Raw
from .server import Keys, Server


def objectstore(
    server: Server, *arguments: str, keys: Keys | None = None
) -> subprocess.CompletedProcess[str]:
    used = keys or server.root
    return subprocess.run(
        [
            *(sys.executable, "-m", "objectstore_app", "user", *arguments),
            *("--endpoint", server.endpoint, "--insecure"),
        ],
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


def email() -> str:
    return f"p-{secrets.token_hex(6)}@example.com"


def test_added_person_can_use_s3_and_removed_one_cannot(server: Server) -> None:
    address = email()
    added = json.loads(objectstore(server, "add", address, "--name", "Pat", "--json").stdout)
    assert (added["email"], added["name"]) == (address, "Pat")
    assert len(added["access_key"]) == 20
    assert len(added["secret_key"]) == 40
    client = make_client(server, Keys(added["access_key"], added["secret_key"]))
    listed = client.list_buckets()
    assert listed["Owner"] == {"ID": added["id"], "DisplayName": "Pat"}
    people = json.loads(objectstore(server, "list", "--json").stdout)
    [me] = [person for person in people if person["email"] == address]
    assert {key: me[key] for key in ("id", "name", "access_keys")} == {
        "id": added["id"],
        "name": "Pat",
        "access_keys": [added["access_key"]],
    }
    assert objectstore(server, "remove", address).returncode == 0
    with refused("InvalidAccessKeyId", 403):
        client.list_buckets()


def test_keys_can_be_given_and_written_as_csv(server: Server, tmp_path: Path) -> None:
    address, access, secret = email(), "GIVEN" + secrets.token_hex(6), "secret-" + "x" * 20
    file = tmp_path / "keys.csv"
    result = objectstore(
        server, "add", address, "--access-key", access, "--secret-key", secret, "--csv", str(file)
    )
    assert result.returncode == 0, result.stderr
    assert secret not in result.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    [row] = csv.DictReader(file.open())
    assert (row["Email"], row["Access Key"], row["Secret Key"]) == (address, access, secret)
    make_client(server, Keys(access, secret)).list_buckets()
    objectstore(server, "remove", access)


def test_same_address_or_key_twice_is_refused(server: Server) -> None:
    address = email()
    first = json.loads(objectstore(server, "add", address, "--json").stdout)
    again = objectstore(server, "add", address)
    assert again.returncode != 0
    assert "UserExists" in again.stderr
    taken = objectstore(
        server, "add", email(), "--access-key", first["access_key"], "--secret-key", "x" * 40
    )
    assert taken.returncode != 0
    objectstore(server, "remove", address)


@pytest.mark.parametrize("address", ["x", "a@", "@b", "a b@example.com", "a@b..c", "a" * 260])
def test_bad_addresses_are_refused(server: Server, address: str) -> None:
    result = objectstore(server, "add", address)
    assert result.returncode != 0
    assert "name@example.com" in result.stderr


def test_only_administrators_may_manage_people(server: Server, alt_keys: Keys) -> None:
    for arguments in (("list",), ("add", email())):
        result = objectstore(server, *arguments, keys=alt_keys)
        assert result.returncode != 0
        assert "only administrators" in result.stderr


def test_wrong_secret_is_refused_in_json(server: Server) -> None:
    answer = Raw(server, Keys(server.root.access_key, "x" * 40))("GET", "/_admin/v1/users")
    assert answer.status == 403
    assert json.loads(answer.body)["code"] == "SignatureDoesNotMatch"


def test_unsigned_admin_requests_are_401(raw_anonymous: Raw) -> None:
    answer = raw_anonymous("GET", "/_admin/v1/users")
    assert (answer.status, json.loads(answer.body)["code"]) == (401, "MissingAuthenticationToken")


def test_bad_admin_input_is_a_json_error(raw: Raw) -> None:
    for body in (b"", b"{", b"[]", b'{"email": 1}', b'{"email": "a@b.c", "more": 1}', b"\xff"):
        answer = raw("POST", "/_admin/v1/users", body)
        assert (answer.status, json.loads(answer.body)["code"]) == (400, "MalformedJSON")
    for method, target, status in (
        ("GET", "/_admin/v1/nothing", 404),
        ("PUT", "/_admin/v1/users", 405),
        ("DELETE", "/_admin/v1/users/nobody%40example.com", 404),
    ):
        answer = raw(method, target)
        assert answer.status == status
        assert json.loads(answer.body)["request_id"]


def test_openapi_document_describes_the_paths(raw_anonymous: Raw) -> None:
    document = json.loads(raw_anonymous("GET", "/_admin/v1/openapi.json").body)
    assert document["openapi"].startswith("3.")
    assert {path.split("/")[3] for path in document["paths"]} == {
        "users",
        "buckets",
        "usage",
        "keys",
    }


def test_secrets_are_not_listed(raw: Raw, server: Server) -> None:
    assert server.root.secret_key.encode() not in raw("GET", "/_admin/v1/users").body


def test_removed_persons_buckets_stay(server: Server, s3: S3Client) -> None:
    added = json.loads(objectstore(server, "add", email(), "--json").stdout)
    client = make_client(server, Keys(added["access_key"], added["secret_key"]))
    name = f"t-{secrets.token_hex(8)}"
    client.create_bucket(Bucket=name)
    objectstore(server, "remove", added["id"])
    with refused("AccessDenied", 403):
        s3.list_objects_v2(Bucket=name)


def test_existing_csv_is_not_overwritten_and_nobody_is_added(
    server: Server, tmp_path: Path
) -> None:
    address, file = email(), tmp_path / "keys.csv"
    file.write_text("precious")
    result = objectstore(server, "add", address, "--csv", str(file))
    assert result.returncode != 0
    assert file.read_text() == "precious"
    assert address not in objectstore(server, "list").stdout
