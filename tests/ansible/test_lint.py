"""Playbooks and roles pass ansible-lint's strictest profile, and Ansible can read them."""

from __future__ import annotations

import pytest

from tests.ansible.playbook import EXAMPLE_INVENTORY, PLAYBOOKS, run


@pytest.mark.timeout(400)
def test_ansible_lint_finds_nothing_in_profile_production():
    paths = ("roles", "playbooks", "inventories")
    outcome = run("ansible-lint", "--profile=production", *paths, inventory=EXAMPLE_INVENTORY)
    assert outcome.code == 0, outcome.output


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_the_playbook_is_readable(name: str):
    outcome = run(
        "ansible-playbook", "--syntax-check", f"playbooks/{name}.yml", inventory=EXAMPLE_INVENTORY
    )
    assert outcome.code == 0, outcome.output
