"""Configuration runs: which playbooks run, and what they leave for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from objectstore_infra import ansible_run, state_folder
from objectstore_infra.errors import InfraError
from objectstore_infra.provider.configuration import ConfigurationRun
from objectstore_infra.provider.handler import Context, OnChange
from objectstore_infra.provider.values import Record
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
}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The playbooks that ran; the first one leaves a kubeconfig that says how many did."""
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path))
    names: list[str] = []

    def run(playbook: str, store: str, say: Callable[[str], None]) -> None:
        del say
        names.append(playbook)
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


def test_a_file_that_no_playbook_left_is_named(ran: list[str]) -> None:
    with pytest.raises(InfraError, match=r"did not leave ceph/keyring in .*/stores/abc"):
        ConfigurationRun().create(CONTEXT, {**RUN, "collects": ["kubeconfig", "ceph/keyring"]})


def test_what_is_collected_is_secret_and_what_runs_may_change() -> None:
    run = ConfigurationRun()
    assert run.secrets == {"files"}
    assert run.changed(RUN, {**RUN, "playbooks": ["entry.yml"], "version": "0.2.0"}) == {
        "playbooks": OnChange.UPDATE,
        "version": OnChange.UPDATE,
    }
