"""The lab with MinIO's client: make a bucket, copy, list, mirror, versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.clients import Program, from_debian
from tests.e2e.conftest import Endpoint, Person


@pytest.fixture
def mc(anna: Person, endpoint: Endpoint, tmp_path: Path) -> Program:
    trust = {"SSL_CERT_FILE": endpoint.authority} if endpoint.authority else {}
    command = [from_debian("minio-client"), "--config-dir", str(tmp_path / "mc"), "--no-color"]
    if not endpoint.authority:
        command.append("--insecure")
    program = Program(command, trust, tmp_path)
    program("alias", "set", "store", endpoint.url, anna.keys.access_key, anna.keys.secret_key)
    return program


def lines(printed: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_mb_cp_ls_cat_rm(mc: Program, bucket_name: str, tmp_path: Path):
    (tmp_path / "hello.txt").write_text("hello from mc\n")
    mc("mb", f"store/{bucket_name}")
    assert f"{bucket_name}/" in [row["key"] for row in lines(mc("--json", "ls", "store"))]
    mc("cp", "hello.txt", f"store/{bucket_name}/folder/hello.txt")
    listed = lines(mc("--json", "ls", "--recursive", f"store/{bucket_name}"))
    assert [row["key"] for row in listed] == ["folder/hello.txt"]
    assert mc("cat", f"store/{bucket_name}/folder/hello.txt") == "hello from mc\n"
    mc("rm", f"store/{bucket_name}/folder/hello.txt")
    assert mc("ls", "--recursive", f"store/{bucket_name}") == ""
    mc("rb", f"store/{bucket_name}")
    assert f"{bucket_name}/" not in [row["key"] for row in lines(mc("--json", "ls", "store"))]


def test_mirror_takes_a_folder_there_and_back(mc: Program, bucket: str, tmp_path: Path):
    written = {f"d{number % 2}/{number}.txt": f"number {number}\n" for number in range(10)}
    for name, text in written.items():
        file = tmp_path / "here" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    mc("mirror", "here", f"store/{bucket}/tree")
    mc("mirror", f"store/{bucket}/tree", "back")
    back = tmp_path / "back"
    read = {str(f.relative_to(back)): f.read_text() for f in back.rglob("*.txt")}
    assert read == written


def test_versions_are_listed_and_the_first_is_read(mc: Program, bucket: str, tmp_path: Path):
    mc("version", "enable", f"store/{bucket}")
    for text in ("one", "two", "three"):
        (tmp_path / "notes.txt").write_text(text)
        mc("cp", "notes.txt", f"store/{bucket}/notes.txt")
    versions = lines(mc("--json", "ls", "--versions", f"store/{bucket}/notes.txt"))
    assert len(versions) == 3
    first = min(versions, key=lambda row: row["versionOrdinal"])
    name = f"store/{bucket}/notes.txt"
    assert mc("cat", "--version-id", first["versionId"], name) == "one"
    assert mc("cat", name) == "three"
