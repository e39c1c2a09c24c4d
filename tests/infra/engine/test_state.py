"""The deployment format, its order, its secrets; the state file and its lock."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from objectstore_infra.engine.errors import StateError, UnsupportedError
from objectstore_infra.engine.passphrase import Crypter, find_passphrase
from objectstore_infra.engine.state import Pending, Resource, decode, encode, verify
from objectstore_infra.engine.statefile import StateFile
from objectstore_infra.engine.values import secret
from tests.infra.engine.memory import crypter

URN = "urn:pulumi:dev::proj::mem:index:Thing::{}"


def _row(name: str, *needs: str) -> Resource:
    return Resource(URN.format(name), "mem:index:Thing", id=name, dependencies=list(needs))


def test_what_is_encoded_is_decoded() -> None:
    row = _row("a")
    row.inputs = {"size": 1, "deep": {"list": [secret("s3cret"), 1.5, True, "x"]}}
    row.extra = {"sourcePosition": "project:///x.py#1"}
    document = json.loads(json.dumps(encode([row], [Pending(row, "creating")], crypter())))
    assert "s3cret" not in json.dumps(document)
    assert document["deployment"]["resources"][0]["sourcePosition"] == "project:///x.py#1"
    manifest = document["deployment"]["manifest"]
    assert manifest["magic"] == hashlib.sha256(manifest["version"].encode()).hexdigest()
    snapshot = decode(document, lambda salt: Crypter("correct horse", salt))
    assert snapshot.resources == [row]
    assert snapshot.pending == [Pending(row, "creating")]
    shown = encode([row], [], crypter(), show_secrets=True)
    assert decode(shown, crypter).resources == [row]


def test_ciphertexts_are_those_of_pulumis_passphrase_provider() -> None:
    salt = bytes(range(8))
    key = hashlib.pbkdf2_hmac("sha256", b"pass", salt, 1_000_000, 32)

    def sealed(text: str) -> str:
        nonce = bytes(range(12))
        body = AESGCM(key).encrypt(nonce, text.encode(), None)
        return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(body).decode()}"

    state = f"v1:{base64.b64encode(salt).decode()}:{sealed('pulumi')}"
    assert Crypter("pass", state).decrypt(sealed('"x"')) == '"x"'
    with pytest.raises(StateError, match="does not open"):
        Crypter("word", state)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([_row("b", URN.format("a")), _row("a")], "depends on"),
        ([_row("a"), _row("a")], "appears twice"),
    ],
)
def test_rows_out_of_order_are_refused(rows: list[Resource], wrong: str) -> None:
    with pytest.raises(StateError, match=wrong):
        verify(rows)


def test_resources_of_another_stack_are_refused() -> None:
    row = _row("a")
    row.extra = {"external": True}
    with pytest.raises(UnsupportedError, match="another stack owns"):
        decode(encode([row], [], crypter()), crypter)


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ([], "not a Pulumi deployment of version 3"),
        ({"version": 2}, "version 2"),
        ({"version": 3}, "no `deployment`"),
        ({"version": 3, "deployment": {"secrets_providers": {"type": "service"}}}, "'service'"),
        ({"version": 3, "deployment": {"resources": [{"type": "x"}]}}, "not understood"),
        ({"version": 3, "deployment": {"resources": [{"urn": "x", "type": "x"}]}}, "not a URN"),
    ],
)
def test_documents_that_are_no_deployment_are_refused(document: object, wrong: str) -> None:
    with pytest.raises(StateError, match=wrong):
        decode(document, crypter)


def test_a_broken_write_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateFile(tmp_path, "proj", "dev")
    state.use(crypter())
    state.save([_row("a")], [])
    before = state.path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StateError, match="No space left"):
        state.save([], [])
    assert state.path.read_bytes() == before


def test_the_lock_names_its_owner_and_outlives_nobody(tmp_path: Path) -> None:
    state = StateFile(tmp_path, "proj", "dev")
    with state.lock("up"):
        owner = state.owner()
        assert owner is not None
        assert owner[0] == os.getpid()
        with pytest.raises(StateError, match=f"process {os.getpid()}"), state.lock("up", 0.2):
            pass
    assert state.owner() is None
    with state.lock("destroy"):
        pass


def test_the_lock_waits_for_the_providers_of_a_dead_owner(tmp_path: Path) -> None:
    state = StateFile(tmp_path, "proj", "dev")
    hold = "import sys; sys.stdin.read()"
    with state.lock("up") as descriptor:
        provider = subprocess.Popen(
            [sys.executable, "-c", hold], stdin=subprocess.PIPE, pass_fds=(descriptor,)
        )
    try:
        with (
            pytest.raises(StateError, match="providers of an interrupted run"),
            state.lock("up", 0.2),
        ):
            pass
    finally:
        provider.communicate()
    with state.lock("up", 5):
        pass


def test_a_named_passphrase_file_has_to_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", str(tmp_path / "none"))
    with pytest.raises(StateError, match="does not exist"):
        find_passphrase(tmp_path)
    (tmp_path / "none").write_text("word\n")
    assert find_passphrase(tmp_path) == ("word", None)


def test_a_made_passphrase_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    made, file = find_passphrase(tmp_path)
    assert file == tmp_path / "passphrase"
    assert file.stat().st_mode & 0o777 == 0o600
    assert find_passphrase(tmp_path) == (made, None)
    assert list(tmp_path.iterdir()) == [file]
