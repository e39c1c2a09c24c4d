"""Action of the module `node_bundle`: sends a node what it says that it lacks, in one tar."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

ARCHIVE = "bundle.tar"


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Asks the node what it lacks, packs that from the bundle, and lets the node take it in."""

    TRANSFERS_FILES = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return what the module returns: first the look, then the change if there is one."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        found = self._execute("node_bundle", arguments, task_vars)
        if self._task.check_mode or found.get("failed") or not found.get("changed"):
            return found
        shell = self._connection._shell
        remote_folder = self._make_tmp_path()
        try:
            with tempfile.TemporaryDirectory(prefix="objectstore-bundle-") as scratch:
                packed = Path(scratch) / ARCHIVE
                pack(Path(arguments["bundle"]), found["missing"], packed)
                remote = shell.join_path(remote_folder, ARCHIVE)
                self._transfer_file(str(packed), remote)
            return self._execute("node_bundle", arguments | {"archive": remote}, task_vars)
        finally:
            self._remove_tmp_path(remote_folder)

    def _execute(
        self, name: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_module(
            module_name=name, module_args=arguments, task_vars=task_vars
        )
        return found


def pack(bundle: Path, paths: list[str], target: Path) -> None:
    """Write a tar of these files of the bundle."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            source = bundle / path
            entry = tarfile.TarInfo(path)
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                tar.addfile(entry, content)
