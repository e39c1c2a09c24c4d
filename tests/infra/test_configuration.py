"""Configuration runs: which playbooks run, and what they leave for others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from objectstore_infra import ansible_run, state_folder
from objectstore_infra.errors import InfraError
from objectstore_infra.provider.configuration import ConfigurationRun, OperatorFiles
from objectstore_infra.provider.handler import Context, OnChange
from objectstore_infra.provider.values import Record
from objectstore_infra.substrates.base import InstanceState
from tests.infra.substrate import MemorySubstrate

CONTEXT = Context(MemorySubstrate(), lambda line: None)
RUN: Record = {
    "store": "abc",
    "playbooks": ["platform.yml", "healthcheck.yml"],
    "collects": ["kubeconfig", "ceph/ceph.conf"],
    "inventoryHash": "1",
    "playbooksHash": "2",
    "version": "0.1.0",
    "machines": {"abc-default-0": "ssh-ed25519 AAAAhost"},
    "others": {"abc-default-3": "192.0.2.14", "abc-envoy-2": "192.0.2.27"},
    "owner": "project/stack/abc",
}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The playbooks that ran; the first one leaves a kubeconfig that says how many did."""
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path))
    names: list[str] = []

    def run(
        playbook: str,
        store: str,
        say: Callable[[str], None],
        variables: Mapping[str, object] | None = None,
    ) -> None:
        del say
        names.append(f"{playbook} {json.dumps(variables)}" if variables else playbook)
        folder = state_folder.store_folder(store)
        state_folder.write_private(folder / "kubeconfig", f"after {len(names)}")
        state_folder.write_private(folder / "ceph" / "ceph.conf", "[global]")

    monkeypatch.setattr(ansible_run, "run_playbook", run)
    return names


def test_playbooks_run_in_order_and_their_files_are_handed_on(ran: list[str]) -> None:
    found, outputs = ConfigurationRun().create(CONTEXT, RUN)
    assert found == "abc/platform.yml"
    assert ran == ["platform.yml", "healthcheck.yml"]
    assert outputs == {"files": {"kubeconfig": "after 2", "ceph/ceph.conf": "[global]"}}
    again = ConfigurationRun().update(CONTEXT, found, RUN | outputs, RUN)
    assert again == {"files": {"kubeconfig": "after 4", "ceph/ceph.conf": "[global]"}}


@pytest.mark.parametrize("owner", ["project/stack/abc", "somebody/else/abc"])
def test_a_machine_that_is_no_longer_wanted_leaves_before_all_else(
    ran: list[str], owner: str
) -> None:
    substrate = MemorySubstrate()
    substrate.instances["abc-envoy-2"] = InstanceState(
        name="abc-envoy-2",
        owner=owner,
        network="os-abc",
        vcpu=2,
        cores_per_socket=2,
        memory_mib=4096,
        running=True,
        complete=False,
        boot_digest="",
    )
    ConfigurationRun().create(Context(substrate, lambda line: None), RUN)
    leaving = ['leave.yml {"leaving": {"abc-envoy-2": "192.0.2.27"}}']
    ours = owner == RUN["owner"]
    assert ran == [*(leaving if ours else []), "platform.yml", "healthcheck.yml"]


def test_a_file_that_no_playbook_left_is_named(ran: list[str]) -> None:
    with pytest.raises(InfraError, match=r"did not leave ceph/keyring in .*/stores/abc"):
        ConfigurationRun().create(CONTEXT, {**RUN, "collects": ["kubeconfig", "ceph/keyring"]})


def test_what_is_collected_is_secret_and_what_runs_may_change(ran: list[str]) -> None:
    run = ConfigurationRun()
    _, outputs = run.create(CONTEXT, RUN)
    assert run.secrets == {"files"}
    wanted = {**RUN, "playbooks": ["entry.yml"], "version": "0.2.0"}
    assert run.changed(RUN | outputs, wanted) == {
        "playbooks": OnChange.UPDATE,
        "version": OnChange.UPDATE,
    }
    assert run.changed(RUN | outputs, RUN) == {}


def test_a_renewed_kubeconfig_is_handed_on_without_a_run(ran: list[str]) -> None:
    run = ConfigurationRun()
    found, outputs = run.create(CONTEXT, RUN)
    ran.clear()
    file = state_folder.store_folder("abc") / "kubeconfig"
    state_folder.write_private(file, "renewed")
    assert run.changed(RUN | outputs, RUN)
    again = run.update(CONTEXT, found, RUN | outputs, RUN)
    assert again == {"files": {"kubeconfig": "renewed", "ceph/ceph.conf": "[global]"}}
    assert ran == []
    assert run.changed(RUN | again, RUN) == {}


def test_a_file_that_went_is_made_by_a_run(ran: list[str]) -> None:
    run = ConfigurationRun()
    found, outputs = run.create(CONTEXT, RUN)
    ran.clear()
    (state_folder.store_folder("abc") / "ceph" / "ceph.conf").unlink()
    assert run.changed(RUN | outputs, RUN)
    run.update(CONTEXT, found, RUN | outputs, RUN)
    assert ran == ["platform.yml", "healthcheck.yml"]


FILES: Record = {
    "store": "abc",
    "inventory": {"all": {"vars": {}}},
    "accessKey": "A",
    "secretKey": "S",
    "privateKey": "P",
    "hostKeys": {"10.77.0.10": "ssh-ed25519 AAAAhost"},
}


@pytest.mark.parametrize("name", ["inventory.json", "id_ed25519", "known_hosts"])
def test_operator_files_that_went_or_changed_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path))
    files = OperatorFiles()
    found, _ = files.create(CONTEXT, FILES)
    file = state_folder.store_folder("abc") / name
    before = file.read_text()
    assert files.changed(FILES, FILES) == {}
    for harm in (file.unlink, lambda: file.write_text("other")):
        harm()
        assert files.changed(FILES, FILES) == {"inventory": OnChange.UPDATE}
        files.update(CONTEXT, found, FILES, FILES)
        assert file.read_text() == before
