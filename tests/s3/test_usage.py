"""What buckets hold: in the admin API, on the metrics page and in `objectstore status`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from objectstore_app.cli.status import samples

from .conftest import Keys
from .raw import Raw
from .server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def usage_of(raw: Raw, bucket: str) -> dict[str, int]:
    # The empty name sorts before all; the one before this bucket's is not known.
    after = bucket[:-1]
    answer = raw("GET", f"/_admin/v1/usage?after={after}")
    assert answer.status == 200
    (found,) = [one for one in json.loads(answer.body) if one["name"] == bucket]
    return {name: found[name] for name in ("objects", "versions", "size_bytes", "uploads")}


def test_usage_of_a_bucket_is_exact(raw: Raw, s3: S3Client, bucket: str) -> None:
    assert usage_of(raw, bucket) == {"objects": 0, "versions": 0, "size_bytes": 0, "uploads": 0}
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for size in (10, 1000, 200_000):
        s3.put_object(Bucket=bucket, Key="k", Body=bytes(size))
    s3.put_object(Bucket=bucket, Key="deleted", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="deleted")
    s3.create_multipart_upload(Bucket=bucket, Key="later")
    assert usage_of(raw, bucket) == {
        "objects": 1,
        "versions": 4,
        "size_bytes": 201_011,
        "uploads": 1,
    }


def test_usage_pages_by_name(raw: Raw, bucket: str) -> None:
    names = [one["name"] for one in json.loads(raw("GET", "/_admin/v1/usage").body)]
    assert bucket in names
    assert names == sorted(names)
    behind = [
        one["name"] for one in json.loads(raw("GET", f"/_admin/v1/usage?after={bucket}").body)
    ]
    assert behind == names[names.index(bucket) + 1 :]


def test_usage_is_for_administrators(server: Server, alt_keys: Keys, raw: Raw) -> None:
    assert Raw(server, alt_keys)("GET", "/_admin/v1/usage").status == 403
    assert Raw(server, None)("GET", "/_admin/v1/usage").status == 401
    assert raw("POST", "/_admin/v1/usage").status == 405
    assert raw("GET", "/_admin/v1/usage/x").status == 404


def test_metrics_and_status_show_what_the_store_holds(
    server: Server, s3: S3Client, bucket: str
) -> None:
    def held() -> dict[str, float]:
        page = Raw(server, None)("GET", "/_metrics").body.decode()
        return {one.name: one.value for one in samples(page) if not one.labels}

    before = held()
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(3000))
    after = held()
    assert after["objectstore_objects"] == before["objectstore_objects"] + 1
    assert after["objectstore_stored_bytes"] == before["objectstore_stored_bytes"] + 3000
    assert after.get("objectstore_damage", 0) == 0  # a front end far from the data does not know
    command = [sys.executable, "-m", "objectstore_app.cli.main", "status", "--json"]
    shown = subprocess.run(
        [*command, "--endpoint", server.endpoint], capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["usage"]["objects"] == after["objectstore_objects"]
