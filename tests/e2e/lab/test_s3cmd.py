"""The lab with s3cmd: mb, ls, la, put --acl-public --guess-mime-type, and the public address."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.clients import Program, from_requirements
from tests.e2e.conftest import Endpoint, Person

PAGE = "<!doctype html>\n<title>Lab</title>\n<p>Anyone may read this.</p>\n"


def s3cmd_of(person: Person, endpoint: Endpoint, folder: Path) -> Program:
    config = folder / f"{person.id[:8]}.s3cfg"
    lines = [
        "[default]",
        f"access_key = {person.keys.access_key}",
        f"secret_key = {person.keys.secret_key}",
        f"host_base = {endpoint.host}",
        f"host_bucket = {endpoint.host}",
        "bucket_location = us-east-1",
        f"use_https = {endpoint.secure}",
        f"check_ssl_certificate = {bool(endpoint.authority)}",
    ]
    if endpoint.authority:
        lines.append(f"ca_certs_file = {endpoint.authority}")
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [from_requirements("s3cmd"), f"--config={config}", "--no-progress"]
    return Program(command, folder=folder)


@pytest.fixture
def s3cmd(anna: Person, endpoint: Endpoint, tmp_path: Path) -> Program:
    return s3cmd_of(anna, endpoint, tmp_path)


def test_mb_ls_and_la(s3cmd: Program, bucket_name: str, tmp_path: Path):
    made = s3cmd("mb", f"s3://{bucket_name}")
    assert f"Bucket 's3://{bucket_name}/' created" in made
    assert f"s3://{bucket_name}" in s3cmd("ls")
    (tmp_path / "a.txt").write_text("a\n")
    for key in ("a.txt", "folder/a.txt"):
        s3cmd("put", "a.txt", f"s3://{bucket_name}/{key}")
    assert re.search(rf"DIR\s+s3://{bucket_name}/folder/", s3cmd("ls", f"s3://{bucket_name}"))
    assert f"s3://{bucket_name}/a.txt" in s3cmd("la")


def test_a_public_page_is_read_by_anyone_with_its_type(
    s3cmd: Program, bucket: str, endpoint: Endpoint, tmp_path: Path
):
    (tmp_path / "index.html").write_text(PAGE)
    target = f"s3://{bucket}/index.html"
    said = s3cmd("put", "--acl-public", "--guess-mime-type", "index.html", target)
    url = re.search(r"Public URL of the object is: (\S+)", said)
    assert url, said
    public = re.sub(r"^https?://[^/]+", endpoint.url, url[1])
    curl = Program(["curl", "--silent", "--show-error", "--fail-with-body", "--include"])
    trust = ["--cacert", endpoint.authority] if endpoint.authority else ["--insecure"]
    head, _, body = curl(*trust, public).partition("\n\n")
    assert body == PAGE
    assert re.search(r"^content-type: text/html", head, re.IGNORECASE | re.MULTILINE), head


def test_a_page_that_is_not_public_is_denied_to_anyone(
    s3cmd: Program, bucket: str, endpoint: Endpoint, tmp_path: Path
):
    (tmp_path / "index.html").write_text(PAGE)
    s3cmd("put", "index.html", f"s3://{bucket}/index.html")
    address = f"{endpoint.url}/{bucket}/index.html"
    status = subprocess.run(
        ["curl", "-sko", "/dev/null", "-w", "%{http_code}", address],
        capture_output=True,
        text=True,
        check=True,
    )
    assert status.stdout == "403"


def test_get_and_del(s3cmd: Program, bucket: str, tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 64)
    s3cmd("put", "a.bin", f"s3://{bucket}/a.bin")
    s3cmd("get", f"s3://{bucket}/a.bin", "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
    s3cmd("del", f"s3://{bucket}/a.bin")
    assert s3cmd("ls", f"s3://{bucket}").strip() == ""


def test_a_bucket_of_another_person_is_neither_listed_nor_opened(
    bucket: str, ben: Person, endpoint: Endpoint, tmp_path: Path
):
    theirs = s3cmd_of(ben, endpoint, tmp_path)
    assert bucket not in theirs("ls")
    denied = theirs.attempt("ls", f"s3://{bucket}")
    assert denied.returncode != 0
    assert "Access" in denied.stderr
    assert "403" in denied.stderr or "AccessDenied" in denied.stderr
