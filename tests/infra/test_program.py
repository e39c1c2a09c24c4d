"""The program on the embedded engine: what is refused before anything is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = REPOSITORY / "pulumi"
TIMEOUT_S = 100


def stack(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run `objectstore stack …` with state and project in the folder."""
    environment = {
        **os.environ,
        "OBJECTSTORE_STATE_DIR": str(folder / "state"),
        "PULUMI_CONFIG_PASSPHRASE": "a test passphrase",
        "PYTHONPATH": f"{REPOSITORY}:{PROJECT}",
    }
    where = ("--stack", "refused", "--cwd", str(folder), "--engine", "embedded")
    return subprocess.run(
        [sys.executable, "-m", "objectstore_app", "stack", *command, *where],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def project(folder: Path, **config: object) -> Path:
    """Make a project like ours with a stack `refused`."""
    for name in ("Pulumi.yaml", "__main__.py", "plugin", "objectstore_infra"):
        (folder / name).symlink_to(PROJECT / name)
    good = {"name": "refused-oss", "domain": "example.test"}
    settings = {f"objectstore:{key}": value for key, value in {**good, **config}.items()}
    (folder / "Pulumi.refused.yaml").write_text(yaml.safe_dump({"config": settings}))
    return folder


def test_a_bad_description_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    network = {
        "dhcpPool": "10.77.0.30-10.77.0.40",
        "clientAddresses": "10.77.0.38-10.77.0.42",
        "infrastructureAddresses": "10.77.0.10-10.77.0.27",
        "dnsAddress": "10.77.0.27",
    }
    project(tmp_path, name="a" * 17, domain="local", size="tiny", network=network)
    done = stack(tmp_path, "up")
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    for part in (
        "nothing was changed",
        "this one has 17",
        "domain: 'local'",
        "size: 'tiny'",
        "'10.77.0.38': lies inside the DHCP pool",
        "'10.77.0.27': also among infrastructureAddresses",
    ):
        assert part in shown
    assert "Traceback" not in shown


@pytest.mark.timeout(TIMEOUT_S + 20)
def test_an_unreachable_incus_is_named_with_the_command_that_helps(tmp_path: Path) -> None:
    socket = tmp_path / "nothing.socket"
    project(tmp_path, incusSocket=str(socket))
    done = stack(tmp_path, "up")
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"Incus does not answer at {socket}" in shown
    assert "make host" in shown
    assert "Traceback" not in shown
