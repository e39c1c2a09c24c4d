"""A store that the first version wrote opens, reads back byte for byte, and lives on.

The fixture is one folder, with its log ahead of its view, and what its own version answered about
it (fixtures/make_store_v1.py).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from objectstore_app.atlas.fsck import check
from tests.engine.fixtures.make_store_v1 import body_of, client, observe, put, upload
from tests.s3.server import embedded_server

FIXTURES = Path(__file__).with_name("fixtures")
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "store-v1.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The old store, in the place where the server of the tests keeps its data."""
    shutil.unpack_archive(FIXTURES / "store-v1.tar.xz", tmp_path / "data")
    return tmp_path


def assert_all_is_there(endpoint: str) -> None:
    assert observe(client(endpoint)) == EXPECTED["buckets"]
    assert observe(client(endpoint, *EXPECTED["second"])) == EXPECTED["of_second"]
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client(endpoint, *EXPECTED["gone"]).list_buckets()


def test_old_store_is_clean_as_it_was_left(folder: Path) -> None:
    report = check(folder / "data")
    assert report.clean, report.findings
    assert report.records > 50


@pytest.mark.parametrize("first", ["as it was left", "rebuilt", "without its views"])
def test_old_store_reads_back_and_lives_on(folder: Path, first: str) -> None:
    data = folder / "data"
    if first == "rebuilt":
        report = check(data, rebuild=True)
        assert (report.clean, report.rebuilt) == (True, ["directory", "shard-000"])
    elif first == "without its views":
        for view in data.glob("*/view.sqlite*"):
            view.unlink()
    with embedded_server(folder) as server:
        assert_all_is_there(server.endpoint)
        live_on(client(server.endpoint))
    assert check(data).clean
    with embedded_server(folder) as server:
        assert_new_is_there(client(server.endpoint))


def live_on(s3: Any) -> None:
    """Change what the old version wrote, in every way."""
    put(s3, "plain", "size-513", 70_000)
    put(s3, "plain", "size-0", 200_000)
    s3.delete_object(Bucket="plain", Key="size-9437191")
    (open_one,) = EXPECTED["buckets"]["plain"]["uploads"]
    s3.complete_multipart_upload(
        Bucket="plain", Key="open upload", UploadId=open_one["id"],
        MultipartUpload={"Parts": [
            {"PartNumber": number, "ETag": etag} for number, _, etag in open_one["parts"][1:]
        ]},
    )  # fmt: skip
    buried = [one for one in EXPECTED["buckets"]["versioned"]["versions"] if one["id"] == "null"]
    s3.delete_object(Bucket="versioned", Key=buried[0]["key"], VersionId="null")
    upload(s3, "weird", "new upload", (100,))
    s3.delete_bucket(Bucket="empty")


def assert_new_is_there(s3: Any) -> None:
    def read(key: str) -> bytes:
        content: bytes = s3.get_object(Bucket="plain", Key=key)["Body"].read()
        return content

    assert read("size-513") == body_of("plain/size-513", 70_000)
    assert read("size-0") == body_of("plain/size-0", 200_000)
    assert read("open upload") == body_of("open upload#2", 5 * 1024 * 1024)
    assert read("multipart").startswith(body_of("multipart#1", 5 * 1024 * 1024))
    found = observe(s3)
    assert "empty" not in found
    assert "size-9437191" not in found["plain"]["current"]
    assert [each["key"] for each in found["weird"]["uploads"]] == ["new upload"]
    before = len(EXPECTED["buckets"]["versioned"]["versions"])
    assert len(found["versioned"]["versions"]) == before - 1
