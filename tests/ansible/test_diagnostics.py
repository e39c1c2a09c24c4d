"""The archive of diagnostics: bounded, complete where a node is ill, and without secrets."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest

from tests.ansible.plugins import plugin

diagnostics = plugin("modules", "diagnostics")

ACCESS, SECRET = "EXAMPLEACCESSKEY0001", "example/secret+key-0123456789abcdefghij"
CEPH_KEY = "AQBzJ1FpAAAAABAAq3mZbF0pV1c1n6sYxkzT9A=="
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIGaVb0\n-----END EC PRIVATE KEY-----"
CUT_PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM"
SIGNATURE = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"started with {SECRET} there", SECRET),
        (f"user {ACCESS}", ACCESS),
        (f"[client.admin]\n\tkey = {CEPH_KEY}\n", CEPH_KEY),
        (f"token: {JWT}", JWT),
        (f"a token {JWT} in words", JWT),
        (f"read\n{PEM}\nand more", "MHcCAQEEIGaVb0"),
        (f"log ends in {CUT_PEM}", "MIGHAgEAMBMGByqGSM"),
        ('{"secret_key": "abcdefgh-unknown"}', "abcdefgh-unknown"),
        ("--password=hunter22 --other", "hunter22"),
        ("Authorization: Bearer abc.def", "abc.def"),
        (f"Signature={SIGNATURE}", SIGNATURE),
        ("client-key-data: TFMwdExTMUNSVWRKVGlCU1U=", "TFMwdExTMUNSVWRKVGlCU1U="),
    ],
)
def test_a_secret_is_taken_out_and_said_to_be(text: str, secret: str):
    found = diagnostics.redacted(text, [ACCESS, SECRET])
    assert secret not in found
    assert diagnostics.REMOVED in found


def test_what_is_no_secret_stays():
    text = "key=photos/a.jpg bucket=b status=503 reason=SlowDown\n2026-01-01 kubelet: started\n"
    assert diagnostics.redacted(text, [ACCESS, SECRET, "", "ab"]) == text


def test_a_command_that_fails_or_is_missing_leaves_its_error():
    failing = [sys.executable, "-c", "import sys; print('half'); sys.exit('no more')"]
    assert diagnostics.printed(failing) == "half\nno more\n"
    assert "nonexistent" in diagnostics.printed(["/nonexistent/program"])


def test_a_long_output_keeps_its_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(diagnostics, "FILE_BYTES_MAX", 4)
    assert diagnostics.printed([sys.executable, "-c", "print('abcdef')"]) == "def\n"


def test_each_pod_gives_its_log_and_that_of_its_life_before():
    found = diagnostics.pod_commands("pod/metadata-0\nerror: no\n")
    assert sorted(found) == ["logs/metadata-0.before.txt", "logs/metadata-0.txt"]
    assert "--previous metadata-0" in found["logs/metadata-0.before.txt"]


def test_the_archive_is_its_owners_alone(tmp_path: Path):
    path = tmp_path / "found.tar.gz"
    diagnostics.write(path, {"a/b.txt": "text\n"})
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["a/b.txt"]
        member = archive.extractfile("a/b.txt")
        assert member is not None
        assert member.read() == b"text\n"
