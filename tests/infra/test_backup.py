"""Backups of the operator's side: what is in them, what opens them, where they are put back."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from objectstore_app.cli.backup import backup as command
from objectstore_infra import backup, backup_seal, state_folder
from objectstore_infra.engine.operations import Stack
from objectstore_infra.errors import BackupError

SECRET = "correct horse battery"
TAKEN = "20261123T140000Z"
STORE = "abc"
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET_MARK = "1b47061264138c4ac30d75fd1eb44270"
# Sealed by the first release that made backups: `one` in `state/file`, of store abc.
OLD_BYTES = """\
T0JKU1RCQUsBBHmUUAVxCvQ12OhIpjdz+1X8eOdyYHtIoTbgEuK73E2zhx6YYh66i7U7vU2MaqzxRXxKSzkLuPHlZnQ1XyWn
ggqhRkRKdze31Y5BlyvXM8w5xd/Wv+cyg1zFUaS/YOn0YiBLVyo/iHTCADSexrIHlbVXZDHmbfLLAy/LRBj9TGL1Zs026SW/
pLEOhCiSdCTGy3CUcTTn0447iKdcrTe+20QKrw9A6XPpjeqTVgGIIYdHGHSQc+VrZgo7u08he5DmzBbczqMjtps8FHoJWZFg
1txD0EMBf54brIeQTPoq03ZIAX2tT+DBeK6js6vc7rjdyyLdGKl0FhKtAUlhMVE5I3sn41s8JnIqIxNYGy5Nit9h3GbTZONW
rCnACYAp5DF/Fz6OAABDFxEgHTWK7pKDBRZ1weWIVf8h01xVJOpcfkBhSNAtc/8C+C0=
"""


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_seal, "COST", 4)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: objectstore\nruntime: python\n")
    (folder / "Pulumi.test.yaml").write_text("config:\n  objectstore:name: abc\n")
    return folder


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(folder))
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    store = folder / "stores" / STORE
    inventory = {"all": {"vars": {"objectstore_version": "1.2.3"}}}
    for name, text in {
        "inventory.json": json.dumps(inventory),
        "kubeconfig": "K",
        "ceph/abc.mon.keyring": "M",
        "authority/cluster/ca.key": "A",
        "authority/cluster/.lock": "",
        "etcd/20260101T000000Z.db": "older",
        "etcd/20260201T000000Z.db": "newer",
        "ansible-site.log": "log",
        "diagnostics/n0.tar.gz": "logs",
        "status.json": "{}",
    }.items():
        state_folder.write_private(store / name, text)
    state_folder.write_private(folder / "bundle-key", "B")
    return folder


@pytest.fixture
def deployed(state: Path, project: Path) -> Path:
    """The state folder of a stack of that store, with its master key."""
    keep_stack(state, project, {SIGNATURE: SECRET_MARK, "plaintext": '"a2V5"'})
    return state


def keep_stack(state: Path, project: Path, key: object) -> None:
    urn = "urn:pulumi:test::objectstore::"
    component, held = "objectstore:components:ObjectStore", "objectstore:index:MasterKey"
    rows = [
        {"urn": f"{urn}{component}::{STORE}", "type": component, "custom": False},
        {
            "urn": f"{urn}{component}${held}::master-key",
            "type": held,
            "custom": True,
            "id": STORE,
            "outputs": {"store": STORE} | ({"key": key} if key else {}),
        },
    ]
    stack = Stack(project, "test", state, lambda text: None)
    stack.import_({"version": 3, "deployment": {"resources": rows}})


def written(project: Path, file: Path) -> backup.Backup:
    backup.write(STORE, project, TAKEN, SECRET, file)
    return backup.read(file, SECRET)


def test_it_holds_what_cannot_be_made_anew(deployed: Path, project: Path, tmp_path: Path) -> None:
    made = written(project, tmp_path / "a.backup")
    assert sorted(made.contents) == [
        "description/Pulumi.test.yaml",
        "state/bundle-key",
        "state/passphrase",
        "state/stacks/objectstore/test.json",
        "state/stores/abc/authority/cluster/ca.key",
        "state/stores/abc/ceph/abc.mon.keyring",
        "state/stores/abc/etcd/20260201T000000Z.db",
        "state/stores/abc/inventory.json",
        "state/stores/abc/kubeconfig",
    ]
    listing = made.listing
    assert (listing.store, listing.stack, listing.version) == (STORE, "test", "1.2.3")
    assert set(listing.files) == set(made.contents)
    assert (tmp_path / "a.backup").stat().st_mode & 0o777 == 0o600
    assert b"newer" not in (tmp_path / "a.backup").read_bytes()
    assert made.contents["state/passphrase"].decode() == (deployed / "passphrase").read_text()


def test_it_brings_back_a_stack_that_opens(deployed: Path, project: Path, tmp_path: Path) -> None:
    made = written(project, tmp_path / "a.backup")
    shutil.rmtree(deployed)
    (project / "Pulumi.test.yaml").unlink()
    assert len(backup.restore(made, project)) == len(made.contents)
    backup.check_master_key(project, "test", STORE)
    for name, content in made.contents.items():
        root, _, rest = name.partition("/")
        file = (deployed if root == "state" else project) / rest
        assert file.read_bytes() == content
        assert file.stat().st_mode & 0o777 == 0o600
    assert backup.restore(made, project) == []


def test_nothing_is_put_over_other_files(deployed: Path, project: Path, tmp_path: Path) -> None:
    made = written(project, tmp_path / "a.backup")
    (deployed / "passphrase").write_text("another")
    (deployed / "stores" / STORE / "kubeconfig").unlink()
    with pytest.raises(BackupError, match=r"other files are there already: .*passphrase"):
        backup.restore(made, project)
    assert not (deployed / "stores" / STORE / "kubeconfig").exists()


def test_a_state_without_the_master_key_is_no_backup(
    state: Path, project: Path, tmp_path: Path
) -> None:
    keep_stack(state, project, None)
    with pytest.raises(BackupError, match="holds no master key of abc"):
        backup.write(STORE, project, TAKEN, SECRET, tmp_path / "a.backup")
    assert not (tmp_path / "a.backup").exists()


def test_a_store_that_no_stack_made_is_named(state: Path, project: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="the stack of the store abc is not found"):
        backup.write(STORE, project, TAKEN, SECRET, tmp_path / "a.backup")
    assert state.is_dir()


def test_another_one_is_not_written_over(deployed: Path, project: Path, tmp_path: Path) -> None:
    first = written(project, tmp_path / "a.backup")
    with pytest.raises(BackupError, match="File exists"):
        backup.write(STORE, project, TAKEN, SECRET, tmp_path / "a.backup")
    assert backup.read(tmp_path / "a.backup", SECRET) == first
    assert deployed.is_dir()


@pytest.mark.parametrize("damage", ["cut", "flipped", "other passphrase", "no backup"])
def test_what_is_damaged_or_not_ours_is_refused(
    deployed: Path, project: Path, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "a.backup"
    written(project, file)
    sealed = bytearray(file.read_bytes())
    sealed[len(sealed) // 2] ^= 1 if damage == "flipped" else 0
    file.write_bytes({"cut": sealed[:-1], "no backup": b"PK"}.get(damage, sealed))
    secret = "something else altogether" if damage == "other passphrase" else SECRET
    with pytest.raises(BackupError, match=r"damaged|no backup"):
        backup.read(file, secret)
    assert deployed.is_dir()


@pytest.mark.parametrize("name", ["elsewhere/x", "state/../x", "state"])
def test_a_file_that_belongs_nowhere_is_refused(state: Path, project: Path, name: str) -> None:
    listing = backup.Listing(STORE, "test", "objectstore", "1", TAKEN, {})
    with pytest.raises(BackupError, match="belongs nowhere"):
        backup.restore(backup.Backup(listing, {name: b""}), project)
    assert state.is_dir()


def test_what_the_first_release_wrote_is_read(tmp_path: Path) -> None:
    file = tmp_path / "old.backup"
    file.write_bytes(base64.b64decode(OLD_BYTES))
    old = backup.read(file, SECRET)
    assert old.contents == {"state/file": b"one"}
    assert (old.listing.store, old.listing.stack, old.listing.taken) == (STORE, "test", TAKEN)


def test_a_cost_that_would_take_all_memory_is_refused(tmp_path: Path) -> None:
    sealed = bytearray(base64.b64decode(OLD_BYTES))
    sealed[9] = 40
    with pytest.raises(BackupError, match="cannot open"):
        backup_seal.unseal(bytes(sealed), SECRET)


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(command, arguments, env=environment)


def test_the_passphrase_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    old, named = tmp_path / "old.backup", tmp_path / "secret"
    old.write_bytes(base64.b64decode(OLD_BYTES))
    named.write_text(f"{SECRET}\n")
    told = run("verify", str(old), "--json", OBJECTSTORE_BACKUP_PASSPHRASE_FILE=str(named))
    assert json.loads(told.output)["store"] == STORE
    assert "state/file" in run("verify", str(old), OBJECTSTORE_BACKUP_PASSPHRASE=SECRET).output
    refused = run("verify", str(old), OBJECTSTORE_BACKUP_PASSPHRASE="short")
    assert refused.exit_code == 1
    assert "at least 12 characters" in refused.output
