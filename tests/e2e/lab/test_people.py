"""The lab with two people: what one has, the other neither sees nor reaches."""

from __future__ import annotations

import csv
import json
import secrets
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.e2e.clients import Program
from tests.e2e.conftest import Endpoint, Person, s3_client
from tests.s3.server import Keys

OBJECT_KEY = "letter.txt"


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_buckets_of_another_person_are_not_listed(endpoint: Endpoint, bucket: str, ben: Person):
    listed = s3_client(endpoint, ben.keys).list_buckets()
    assert bucket not in [row["Name"] for row in listed["Buckets"]]
    assert listed["Owner"]["ID"] == ben.id


def test_every_access_to_a_bucket_of_another_person_is_denied(
    endpoint: Endpoint, bucket: str, anna: Person, ben: Person
):
    s3_client(endpoint, anna.keys).put_object(Bucket=bucket, Key=OBJECT_KEY, Body=b"private")
    theirs = s3_client(endpoint, ben.keys)
    attempts = {
        "list": lambda: theirs.list_objects_v2(Bucket=bucket),
        "read": lambda: theirs.get_object(Bucket=bucket, Key=OBJECT_KEY),
        "write": lambda: theirs.put_object(Bucket=bucket, Key="new", Body=b"x"),
        "overwrite": lambda: theirs.put_object(Bucket=bucket, Key=OBJECT_KEY, Body=b"x"),
        "delete": lambda: theirs.delete_object(Bucket=bucket, Key=OBJECT_KEY),
        "open up": lambda: theirs.put_bucket_acl(Bucket=bucket, ACL="public-read"),
        "remove": lambda: theirs.delete_bucket(Bucket=bucket),
    }
    for attempt in attempts.values():
        with pytest.raises(ClientError) as error:
            attempt()
        assert refusal(error) == (403, "AccessDenied")
    mine = s3_client(endpoint, anna.keys).get_object(Bucket=bucket, Key=OBJECT_KEY)
    assert mine["Body"].read() == b"private"


def test_a_wrong_secret_is_refused(endpoint: Endpoint, anna: Person):
    stranger = s3_client(endpoint, Keys(anna.keys.access_key, secrets.token_hex(20)))
    with pytest.raises(ClientError) as error:
        stranger.list_buckets()
    assert refusal(error) == (403, "SignatureDoesNotMatch")


def test_a_person_is_added_with_a_csv_file_listed_and_removed(
    endpoint: Endpoint, objectstore: Program, tmp_path: Path
):
    email = f"carla-{secrets.token_hex(4)}@example.com"
    file = tmp_path / "keys.csv"
    objectstore("user", "add", email, "--name", "Carla", "--csv", str(file))
    cells = [cell for line in csv.reader(file.read_text().splitlines()) for cell in line]
    people = {row["email"]: row for row in json.loads(objectstore("user", "list", "--json"))}
    carla = people[email]
    assert carla["name"] == "Carla"
    assert carla["access_keys"][0] in cells
    secret = cells[cells.index(carla["access_keys"][0]) + 1]
    client = s3_client(endpoint, Keys(carla["access_keys"][0], secret))
    assert client.list_buckets()["Owner"]["ID"] == carla["id"]

    objectstore("user", "remove", email)
    with pytest.raises(ClientError) as error:
        client.list_buckets()
    assert refusal(error) == (403, "InvalidAccessKeyId")
