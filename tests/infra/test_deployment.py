"""Changes made by hand to a running deployment: each is seen, named and put right, alone.

The deployment is the stack that OBJECTSTORE_STACK names, its inventory OBJECTSTORE_INVENTORY.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from objectstore_infra import backup, state_folder
from objectstore_infra.spec import bridge_name
from objectstore_infra.substrates.incus_client import IncusClient
from objectstore_infra.substrates.incus_network import KEY_ADDRESS

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240
STACK = os.environ.get("OBJECTSTORE_STACK", "")
INVENTORY = os.environ.get("OBJECTSTORE_INVENTORY", "")

pytestmark = [
    pytest.mark.deployment,
    pytest.mark.timeout(2 * TIMEOUT_S),
    pytest.mark.skipif(
        not (STACK and INVENTORY), reason="OBJECTSTORE_STACK, OBJECTSTORE_INVENTORY name none"
    ),
]


@pytest.fixture(scope="module")
def variables() -> Mapping[str, Any]:
    inventory = json.loads(Path(INVENTORY).read_text(encoding="utf-8"))
    return dict(inventory["all"]["vars"])


def up() -> str:
    """Run `stack up --refresh` and return what it showed."""
    return run(
        sys.executable, "-m", "objectstore_app", "stack", "up", "--refresh", "--stack", STACK
    )


def run(*command: str) -> str:
    """Run a command in the repository and return what it printed."""
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'pulumi'}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def config(name: str) -> dict[str, str]:
    return dict(IncusClient().get(f"/instances/{name}").metadata["config"])


def touched(shown: str) -> set[str]:
    """Names of the resources that a run created, updated, replaced or deleted."""
    verbs = {"created", "updated", "replaced", "deleted"}
    lines = (line.split("] ")[-1].split() for line in shown.splitlines())
    return {words[3] for words in lines if len(words) > 3 and words[1] in verbs}


def test_vcpu_changed_by_hand_is_put_right_and_nothing_else_is_touched(
    variables: Mapping[str, Any],
) -> None:
    machine = f"{variables['objectstore_name']}-default-2"
    before = config(machine)
    IncusClient().patch(f"/instances/{machine}", {"config": {"limits.cpu": "1"}})
    shown = up()
    assert "vcpu: 1 => 4" in shown
    assert touched(shown) == {machine}
    after = config(machine)
    assert after["limits.cpu"] == before["limits.cpu"] == "4"
    assert after["volatile.uuid"] == before["volatile.uuid"]


def test_a_reservation_dropped_by_hand_is_made_again(variables: Mapping[str, Any]) -> None:
    network = bridge_name(variables["objectstore_name"])
    key = f"{KEY_ADDRESS}{variables['objectstore_dns_address']}"
    answer = IncusClient().get(f"/networks/{network}")
    before = answer.metadata["config"]
    edited = {name: value for name, value in before.items() if name != key}
    body = {"config": edited, "description": answer.metadata["description"]}
    IncusClient().put(f"/networks/{network}", body, etag=answer.etag)
    assert touched(up()) == {"addresses"}
    assert IncusClient().get(f"/networks/{network}").metadata["config"] == before


def test_all_addresses_are_in_the_ledger_with_their_owner(variables: Mapping[str, Any]) -> None:
    name = variables["objectstore_name"]
    entries = IncusClient().get(f"/networks/{bridge_name(name)}").metadata["config"]
    ledger = {
        key.removeprefix(KEY_ADDRESS): entry
        for key, entry in entries.items()
        if key.startswith(KEY_ADDRESS)
    }
    owner = f"objectstore/{STACK}/{name}"
    expected = dict.fromkeys(
        variables["objectstore_infrastructure_addresses"], f"{owner} infrastructure"
    )
    expected |= dict.fromkeys(variables["objectstore_client_addresses"], f"{owner} client")
    expected[variables["objectstore_dns_address"]] = f"{owner} dns"
    expected[variables["objectstore_management_address"]] = f"{owner} management"
    assert ledger == expected


def test_what_the_operator_lost_comes_back_from_a_backup(
    variables: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBJECTSTORE_BACKUP_PASSPHRASE", "correct horse battery")
    state, name = state_folder.state_folder(), variables["objectstore_name"]
    archive, aside = tmp_path / "store.backup", tmp_path / "aside"
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    run(playbook, "playbooks/backup.yml", "--extra-vars", f"backup_file={archive}")
    lost = [backup.find_stack(state, name), state_folder.store_folder(name)]
    aside.mkdir()
    for path in lost:
        shutil.move(path, aside)
    try:
        run(sys.executable, "-m", "objectstore_app", "backup", "restore", str(archive))
        assert touched(up()) == set()
    finally:
        for path in lost:
            if not path.exists():
                shutil.move(aside / path.name, path)
