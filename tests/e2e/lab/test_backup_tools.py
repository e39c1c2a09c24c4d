"""The lab with rclone and restic, which store other people's files and verify what they read."""

from __future__ import annotations

import random
import secrets
from pathlib import Path

import pytest

from tests.e2e.clients import Program, from_debian
from tests.e2e.conftest import Endpoint, Person


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with small, empty and larger files and names that need encoding."""
    dice = random.Random(7)
    folder = tmp_path / "tree"
    sizes = {"a.txt": 10, "empty": 0, "deep/er/b.bin": 300_000, "c + d & é.bin": 12_345, "x~y": 1}
    for name, size in sizes.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dice.randbytes(size))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_rclone_syncs_checks_and_copies_back(
    anna: Person, endpoint: Endpoint, bucket: str, tree: Path, tmp_path: Path
):
    trust = ["--ca-cert", endpoint.authority] if endpoint.authority else ["--no-check-certificate"]
    rclone = Program(
        [from_debian("rclone"), "--config", str(tmp_path / "none"), *trust],
        {
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "Other",
            "RCLONE_CONFIG_STORE_ENDPOINT": endpoint.url,
            "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": anna.keys.access_key,
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": anna.keys.secret_key,
        },
    )
    rclone("sync", str(tree), f"store:{bucket}/tree")
    rclone("check", "--download", str(tree), f"store:{bucket}/tree")
    rclone("copy", f"store:{bucket}/tree", str(tmp_path / "back"))
    assert contents(tmp_path / "back") == contents(tree)


def test_restic_backs_up_checks_and_restores(
    anna: Person, endpoint: Endpoint, bucket: str, tree: Path, tmp_path: Path
):
    trust = ["--cacert", endpoint.authority] if endpoint.authority else ["--insecure-tls"]
    restic = Program(
        [from_debian("restic"), "--no-cache", *trust],
        {
            "RESTIC_REPOSITORY": f"s3:{endpoint.url}/{bucket}/backup",
            "RESTIC_PASSWORD": secrets.token_hex(8),
            "AWS_ACCESS_KEY_ID": anna.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": anna.keys.secret_key,
        },
    )
    restic("init")
    restic("backup", str(tree))
    restic("check", "--read-data")
    restic("restore", "latest", "--target", str(tmp_path / "back"))
    assert contents(tmp_path / "back" / str(tree).lstrip("/")) == contents(tree)
