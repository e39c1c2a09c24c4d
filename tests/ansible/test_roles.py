"""Every role has the same shape, and says exactly which options it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.ansible.playbook import ROOT

ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
STEPS = ("preflight", "install", "configure", "run")
# Installers, whose content others configure and run, and what only prepares nodes for pods.
STEPS_OF = dict.fromkeys(("bundle", "bundle_archive"), ("preflight", "install"))
STEPS_OF["workloads"] = ("preflight", "configure")
TYPES = {
    "bool": bool,
    "int": int,
    "float": float,
    "list": list,
    "dict": dict,
    "str": str,
    "path": str,
}


def loaded(path: Path):
    return yaml.safe_load(path.read_text())


def options(role: Path) -> dict:
    return loaded(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]


def steps(role: Path) -> tuple[str, ...]:
    return STEPS_OF.get(role.name, STEPS)


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_steps_are_the_same_and_each_has_its_tag(role: Path):
    tasks = loaded(role / "tasks" / "main.yml")
    found = [(task["ansible.builtin.import_tasks"], task["tags"]) for task in tasks]
    assert found == [(f"{step}.yml", [f"{role.name}_{step}"]) for step in steps(role)]


def test_defaults_and_argument_specs_say_the_same(role: Path):
    defaults = loaded(role / "defaults" / "main.yml")
    optional = {name: spec for name, spec in options(role).items() if not spec.get("required")}
    assert {name: spec["default"] for name, spec in optional.items()} == defaults


def test_every_option_carries_the_roles_name_a_type_and_a_description(role: Path):
    for name, spec in options(role).items():
        assert name.startswith(f"{role.name}_")
        assert spec["description"].strip().endswith(".")
        default = spec.get("default")
        if default is not None and not (isinstance(default, str) and "{{" in default):
            assert isinstance(default, TYPES[spec["type"]]), name


def test_every_option_is_used(role: Path):
    files = [path for path in role.rglob("*") if path.suffix in (".yml", ".j2")]
    used = "\n".join(path.read_text() for path in files if path.parent.name != "meta")
    for name in options(role):
        uses = len(re.findall(rf"\b{name}\b", used))
        in_defaults = name in loaded(role / "defaults" / "main.yml")
        assert uses > in_defaults, name


def test_registered_names_carry_two_underscores(role: Path):
    for path in (role / "tasks").glob("*.yml"):
        for name in re.findall(r"^\s*register: (\S+)$", path.read_text(), re.MULTILINE):
            assert name.startswith(f"__{role.name}_"), f"{path}: {name}"


def test_a_serial_play_says_why():
    for path in (ROOT / "playbooks").rglob("*.yml"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"  serial:", line):
                start = max(i for i in range(number) if lines[i].startswith("- name:"))
                assert lines[start - 1].startswith("#"), f"{path.name}: {lines[start]}"
