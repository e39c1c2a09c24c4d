"""The lab with the aws cli: a multipart upload of 100 MiB and a synchronised folder of pictures."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import zlib
from pathlib import Path

import pytest

from tests.e2e.clients import Program, from_requirements
from tests.e2e.conftest import Endpoint, Person

# The cli takes seconds to start, and a test starts it several times.
pytestmark = pytest.mark.timeout(300)

MIB = 1024 * 1024
LARGE_BYTES = 100 * MIB
PICTURES = 12
PICTURE_SIDE = 64


@pytest.fixture
def aws(anna: Person, endpoint: Endpoint, tmp_path: Path) -> Program:
    trust = ["--ca-bundle", endpoint.authority] if endpoint.authority else ["--no-verify-ssl"]
    # Version 1 of the cli presigns in the oldest dialect unless told otherwise.
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  signature_version = s3v4\n")
    return Program(
        [from_requirements("aws"), "--endpoint-url", endpoint.url, *trust],
        {
            "AWS_ACCESS_KEY_ID": anna.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": anna.keys.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONWARNINGS": "ignore",
        },
        tmp_path,
    )


def picture(dice: random.Random) -> bytes:
    """A PNG of coloured noise, made by hand (W3C PNG specification, sections 5 and 11)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    rows = b"".join(b"\0" + dice.randbytes(3 * PICTURE_SIDE) for _ in range(PICTURE_SIDE))
    header = struct.pack(">IIBBBBB", PICTURE_SIDE, PICTURE_SIDE, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def test_a_multipart_upload_of_100_mib_reads_back(aws: Program, bucket: str, tmp_path: Path):
    large = tmp_path / "large.bin"
    block = random.Random(bucket).randbytes(MIB)
    with large.open("wb") as file:
        for number in range(LARGE_BYTES // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    aws("s3", "cp", "--no-progress", "large.bin", f"s3://{bucket}/large.bin")
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "large.bin"))
    assert head["ContentLength"] == LARGE_BYTES
    assert head["ETag"].strip('"').endswith("-13"), "8 MiB parts are the aws cli's default"
    aws("s3", "cp", "--no-progress", f"s3://{bucket}/large.bin", "back.bin")
    assert digest(tmp_path / "back.bin") == digest(large)
    uploads = aws("s3api", "list-multipart-uploads", "--bucket", bucket)
    assert "Uploads" not in uploads


def test_a_synchronised_folder_of_pictures_is_the_same_on_both_sides(
    aws: Program, bucket: str, tmp_path: Path
):
    dice = random.Random(bucket)
    album, copy = tmp_path / "album", tmp_path / "copy"
    for number in range(PICTURES):
        file = album / f"day {number % 3}" / f"Bild {number:02d} ü.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(dice))
    aws("s3", "sync", "--no-progress", "album", f"s3://{bucket}/album")
    assert aws("s3", "sync", "album", f"s3://{bucket}/album") == "", "nothing has changed"

    (album / "day 0" / "Bild 00 ü.png").unlink()
    (album / "day 1" / "new.png").write_bytes(picture(dice))
    said = aws("s3", "sync", "--no-progress", "--delete", "album", f"s3://{bucket}/album")
    assert said.count("upload:") == 1
    assert said.count("delete:") == 1

    aws("s3", "sync", "--no-progress", f"s3://{bucket}/album", "copy")
    here = {f.relative_to(album): digest(f) for f in album.rglob("*.png")}
    there = {f.relative_to(copy): digest(f) for f in copy.rglob("*.png")}
    assert here == there
    assert len(here) == PICTURES
    key = "album/day 1/new.png"
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", key))
    assert head["ContentType"] == "image/png"


def test_a_presigned_address_is_read_without_keys(
    aws: Program, bucket: str, endpoint: Endpoint, tmp_path: Path
):
    (tmp_path / "gift.txt").write_text("for you\n")
    aws("s3", "cp", "--no-progress", "gift.txt", f"s3://{bucket}/gift.txt")
    address = aws("s3", "presign", f"s3://{bucket}/gift.txt", "--expires-in", "60").strip()
    trust = ["--cacert", endpoint.authority] if endpoint.authority else ["--insecure"]
    assert Program(["curl", "--silent", "--fail-with-body", *trust])(address) == "for you\n"
