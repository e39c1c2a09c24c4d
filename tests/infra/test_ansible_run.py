"""Running playbooks: progress as it goes, the end of the output when one fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_infra import ansible_run, state_folder
from objectstore_infra.ansible_run import ConfigurationError

PLAYBOOK = """\
- name: The only play
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Say something
      ansible.builtin.debug:
        msg: "{{ lookup('ansible.builtin.env', 'OBJECTSTORE_INVENTORY') }}"
    - name: Refuse
      ansible.builtin.fail:
        msg: the disk is full
      when: %s
"""
SILENT = """\
- name: Nodes that do not answer
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Know them
      ansible.builtin.add_host:
        name: "{{ item }}"
        ansible_host: 127.0.0.1
        ansible_port: 1
        ansible_connection: ssh
      loop: [abc-default-1, abc-default-2]
    - name: Ask one
      ansible.builtin.command: /bin/true
      delegate_to: abc-default-2
      ignore_unreachable: true
- name: Ask the other one
  hosts: abc-default-1
  gather_facts: false
  tasks:
    - name: Ask it
      ansible.builtin.command: /bin/true
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "state"))
    state_folder.store_folder("abc").mkdir(parents=True)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "inventories" / "local").mkdir(parents=True)
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    (tmp_path / "playbooks" / "good.yml").write_text(PLAYBOOK % "false")
    (tmp_path / "playbooks" / "bad.yml").write_text(PLAYBOOK % "true")
    return tmp_path


def test_plays_and_tasks_are_shown_and_the_rest_is_logged(root: Path) -> None:
    said: list[str] = []
    ansible_run.run_playbook("good.yml", "abc", said.append, root=root)
    assert said[:2] == ["The only play", "Say something"]
    assert said[-1].startswith("good.yml done in ")
    folder = state_folder.store_folder("abc")
    log = ansible_run.log_file("abc", "good.yml").read_text(encoding="utf-8")
    assert str(folder / state_folder.INVENTORY) in log


def test_a_failure_says_why_and_where_the_whole_output_is(root: Path) -> None:
    with pytest.raises(ConfigurationError) as failed:
        ansible_run.run_playbook("bad.yml", "abc", lambda _line: None, root=root)
    assert "the disk is full" in str(failed.value)
    assert str(ansible_run.log_file("abc", "bad.yml")) in str(failed.value)


def test_a_node_that_does_not_answer_is_named_with_what_to_do(root: Path) -> None:
    (root / "playbooks" / "silent.yml").write_text(SILENT)
    with pytest.raises(ConfigurationError) as failed:
        ansible_run.run_playbook("silent.yml", "abc", lambda _line: None, root=root)
    assert "abc-default-1, abc-default-2 cannot be reached" in failed.value.hint
    assert "`make refresh` and `make up`" in failed.value.hint


def test_the_hash_changes_with_any_playbook(root: Path) -> None:
    before = ansible_run.content_hash(root)
    assert ansible_run.content_hash(root) == before
    (root / "playbooks" / "good.yml").write_text("[]")
    assert ansible_run.content_hash(root) != before
