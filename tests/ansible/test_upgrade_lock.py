"""The lock of an upgrade, and the note of one that has not come to its end, as the module keeps
them on a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ansible.playbook import run
from tests.ansible.plugins import plugin

locks = plugin("modules", "upgrade_lock")
gate = plugin("filter", "objectstore_gate")


def test_the_note_keeps_the_time_of_the_first_run_and_goes_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    note = tmp_path / "objectstore" / "upgrade.json"
    assert locks.noted(note) == {}
    assert locks.brought(note, "1.1")
    begun = locks.noted(note)
    assert begun["version"] == "1.1"
    monkeypatch.setattr(locks.time, "strftime", lambda *_: "later")
    assert not locks.brought(note, "1.1")
    assert locks.noted(note) == begun
    assert locks.brought(note, "1.0")
    assert locks.noted(note) == {"version": "1.0", "since": "later"}
    assert locks.brought(note, "")
    assert not locks.brought(note, "")
    assert locks.noted(note) == {}


def test_an_upgrade_that_was_cut_off_is_red_and_its_next_step_names_the_version():
    note = {"version": "1.1", "since": "2026-01-01 10:00:00 UTC"}
    newer = {"version": "1.2", "since": "2026-01-02 10:00:00 UTC"}
    (row,) = gate.upgrade_findings([{}, note, newer], "abc-oss", False)
    assert not row["ok"]
    assert "to 1.2, begun at 2026-01-02" in row["found"]
    assert "OBJECTSTORE_STORE=abc-oss" in row["next_step"]
    assert "upgrade.yml -e version=1.2" in row["next_step"]
    assert gate.upgrade_findings([note], "abc-oss", True)[0]["ok"]
    assert gate.upgrade_findings([{}, {}], "abc-oss", False)[0]["ok"]


REFUSED = """\
- hosts: nodes
  gather_facts: false
  tasks:
{tasks}
"""


@pytest.mark.parametrize(
    ("note", "refused"),
    [({"version": "1.1", "since": "noon"}, True), ({}, False)],
)
def test_a_deployment_does_not_go_on_where_an_upgrade_stands_half_done(
    tmp_path: Path, note: dict, refused: bool
):
    """The tasks of platform.yml that decide, as they are, on a node of this machine."""
    text = (Path(__file__).parents[2] / "playbooks" / "platform.yml").read_text()
    begin = text.index("    - name: See whether it is being upgraded")
    end = text.index("    - name: Look for the access to a store")
    where = f"{tmp_path}/note.json"
    lock = f"      upgrade_lock:\n        note: {where}\n        path: {tmp_path}/lock.json\n"
    tasks = text[begin:end].replace("      upgrade_lock:\n", lock)
    assert lock in tasks
    (tmp_path / "play.yml").write_text(REFUSED.format(tasks=tasks))
    (tmp_path / "hosts.yml").write_text(
        "nodes:\n  hosts:\n    here: {ansible_connection: local, objectstore_name: abc-oss}\n"
    )
    if note:
        Path(where).write_text(json.dumps(note))
    outcome = run("ansible-playbook", "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/play.yml")
    assert (outcome.code != 0) == refused, outcome.output
    assert ("abc-oss stands half way to 1.1" in outcome.output) == refused
    assert ("playbooks/upgrade.yml -e version=1.1" in outcome.output) == refused
