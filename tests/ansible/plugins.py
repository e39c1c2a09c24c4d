"""Loads a plugin of the playbooks as a module, the way Ansible would find it."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import ansible.module_utils

from tests.ansible.playbook import ROOT

# Where ansible.cfg says that the code lies which modules share.
ansible.module_utils.__path__.append(str(ROOT / "playbooks" / "plugins" / "module_utils"))


def plugin(kind: str, name: str) -> ModuleType:
    path = ROOT / "playbooks" / "plugins" / kind / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"objectstore_{kind}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
