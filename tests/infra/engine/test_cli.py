"""A stack moves from the embedded engine to the real `pulumi` and back, and nothing changes.

Runs where the command is found: on the PATH, or as OBJECTSTORE_PULUMI_CLI=FILE.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.engine.conftest import PASSPHRASE, Sandbox

CLI = os.environ.get("OBJECTSTORE_PULUMI_CLI") or shutil.which("pulumi") or ""
SECRET = "hunter2-hunter2"
PROGRAM = (
    {"key": "a", "token": SECRET, "note": "first"},
    {"key": "b", "uses": ["a"], "box": "box", "protect": True},
    {"key": "c", "after": ["b"], "exclusive": True, "secret_outputs": ["note"], "note": "n"},
)
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not CLI, reason="no pulumi command: none on the PATH, OBJECTSTORE_PULUMI_CLI is not set"
    ),
]


class RealPulumi:
    """The real command on a sandbox's project, with a backend of its own."""

    def __init__(self, sandbox: Sandbox, home: Path) -> None:
        self._project = sandbox.project
        (home / "backend").mkdir(parents=True)
        self._env = {
            **sandbox.env,
            "PATH": f"{Path(CLI).parent}:{os.environ['PATH']}",
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": f"file://{home / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
        }

    def run(self, *arguments: str) -> str:
        """Run one command; gives what it wrote."""
        result = subprocess.run(
            [CLI, "--non-interactive", *arguments],
            cwd=self._project,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
        return result.stdout


@pytest.fixture
def real(sandbox: Sandbox, tmp_path: Path) -> RealPulumi:
    """The real command, on the sandbox's project."""
    settings = sandbox.project / "Pulumi.yaml"
    options = f"runtime:\n  name: python\n  options:\n    virtualenv: {sys.prefix}\n"
    settings.write_text(settings.read_text().replace("runtime: python\n", options))
    return RealPulumi(sandbox, tmp_path / "pulumi-home")


def test_a_stack_moves_to_the_real_command_and_back(
    sandbox: Sandbox, real: RealPulumi, tmp_path: Path
) -> None:
    document = tmp_path / "deployment.json"
    sandbox.program(*PROGRAM)
    sandbox.run("up")
    sandbox.run("export", "--file", str(document))

    real.run("stack", "init", "dev")
    real.run("stack", "import", "--file", str(document))
    real.run("preview", "--expect-no-changes", "--diff")
    real.run("up", "--yes", "--skip-preview", "--expect-no-changes")
    real.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    edited = [{**PROGRAM[0], "size": 5}, *PROGRAM[1:], {"key": "d", "token": SECRET}]
    sandbox.program(*edited)
    real.run("up", "--yes", "--skip-preview")
    real.run("stack", "export", "--file", str(document))
    assert SECRET not in document.read_text()

    sandbox.run("import", "--file", str(document))
    assert "preview done: 7 unchanged" in sandbox.run("preview")
    assert "up done: 7 unchanged" in sandbox.run("up")
    sandbox.check_agrees()
    theirs = _rows(document)
    sandbox.run("export", "--file", str(document))
    assert _rows(document) == theirs


def _rows(document: Path) -> dict[str, object]:
    # Everything but what every engine writes anew: times, ciphertexts, positions in the source.
    volatile = {"modified", "created", "sourcePosition", "stackTrace", "inputs", "outputs"}
    rows = json.loads(document.read_text())["deployment"]["resources"]
    return {
        row["urn"]: {key: value for key, value in row.items() if key not in volatile}
        for row in rows
    }
