"""A sandbox: a copy of the tiny project with its own state, world and passphrase."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner

from objectstore_app.cli.main import main

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
PASSPHRASE = "a test passphrase"
COMMAND = "from objectstore_app.cli.main import main; main()"
# The key that a passphrase and a salt give is always the same, and takes most of a run's time.
derived = functools.cache(hashlib.pbkdf2_hmac)


class Sandbox:
    """Runs `objectstore stack …` on the tiny project."""

    def __init__(self, root: Path) -> None:
        self.project = root / "project"
        self.world = root / "world"
        self.state_dir = root / "state"
        self.project.mkdir()
        self.world.mkdir()
        shutil.copy(HERE / "tiny" / "__main__.py", self.project)
        plugin = self.project / "plugin" / "pulumi-resource-tiny"
        plugin.parent.mkdir()
        provider = shlex.join([sys.executable, "-u", str(HERE / "tiny" / "provider.py")])
        plugin.write_text(f'#!/bin/sh\nexec {provider} "$@"\n')
        plugin.chmod(0o755)
        (self.project / "Pulumi.yaml").write_text(
            "name: tinyproj\nruntime: python\n"
            "plugins:\n  providers:\n    - name: tiny\n      path: plugin\n"
        )
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PULUMI_", "TINY_"))},
            "OBJECTSTORE_STATE_DIR": str(self.state_dir),
            "OBJECTSTORE_ENGINE": "embedded",
            "OBJECTSTORE_STACK": "dev",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PYTHONPATH": str(REPOSITORY),
            "TINY_WORLD": str(self.world),
        }

    @property
    def state_file(self) -> Path:
        """Where the stack's state is."""
        return self.state_dir / "stacks" / "tinyproj" / "dev.json"

    def program(self, *rows: dict[str, Any]) -> None:
        """Write the program's resources."""
        defaults = {"size": 1, "zone": "x"}
        full = [{"name": row["key"], **defaults, **row} for row in rows]
        (self.project / "things.json").write_text(json.dumps(full))

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "stack", *arguments],
            cwd=self.project,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, **env: str) -> str:
        """Run a command to its end; gives what it wrote, after checking its exit code.

        The command runs in this process, which spares its imports and deriving a key once more;
        plugins and programs do not.
        """
        left_out = {key: None for key in os.environ if key not in self.env}
        runner = CliRunner()
        with mock.patch("hashlib.pbkdf2_hmac", derived):
            result = runner.invoke(
                main,
                ["stack", *arguments, *self._where(arguments)],
                env={**left_out, **self.env, **env},
            )
        assert result.exit_code == code, result.output
        return result.output

    def _where(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        return () if "--cwd" in arguments else ("--cwd", str(self.project))

    def things(self) -> dict[str, dict[str, Any]]:
        """What is in the world."""
        return {file.stem: json.loads(file.read_text()) for file in self.world.iterdir()}

    def resources(self) -> list[dict[str, Any]]:
        """The rows of the state."""
        if not self.state_file.exists():
            return []
        deployment = json.loads(self.state_file.read_text())["deployment"]
        assert "pending_operations" not in deployment
        rows: list[dict[str, Any]] = deployment["resources"]
        return rows

    def check_agrees(self) -> None:
        """Assert that the state names the things that exist, and that all of those are whole."""
        rows = [row for row in self.resources() if row["type"] == "tiny:index:Thing"]
        assert {row["id"] for row in rows} == set(self.things())
        for row in rows:
            assert row["inputs"]["size"] == self.things()[row["id"]]["size"]
        assert not [thing for thing in self.things().values() if "half" in thing]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A fresh sandbox."""
    return Sandbox(tmp_path)
