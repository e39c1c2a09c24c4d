"""A description that cannot work is refused before anything is touched, each mistake by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2] / "pulumi"
STACK = "refused"

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("OBJECTSTORE_TEST_ENDPOINT")), reason="asks nothing of a running store"
)

GOOD = {
    "objectstore:name": "refused-oss",
    "objectstore:domain": "example.test",
    "objectstore:size": "small",
    "objectstore:network": {
        "subnet": "10.80.0.0/24",
        "gateway": "10.80.0.1",
        "dhcpPool": "10.80.0.200-10.80.0.239",
        "infrastructureAddresses": "10.80.0.10-10.80.0.27",
        "dnsAddress": "10.80.0.28",
        "managementAddress": "10.80.0.29",
        "clientAddresses": "10.80.0.30-10.80.0.33",
    },
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The deployment's project, with room for a stack description of the test's own."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("Pulumi.yaml", "__main__.py", "objectstore_infra", "plugin"):
        (folder / name).symlink_to(PROJECT / name)
    return folder


def up(project: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    """`objectstore stack up` of the good description with some settings changed.

    A setting `network__x` is the entry `x` of the network.
    """
    settings = json.loads(json.dumps(GOOD))
    for name, value in changes.items():
        group, _, entry = name.partition("__")
        if entry:
            settings[f"objectstore:{group}"][entry] = value
        else:
            settings[f"objectstore:{name}"] = value
    # JSON is YAML.
    (project / f"Pulumi.{STACK}.yaml").write_text(json.dumps({"config": settings}))
    command = ["stack", "up", "--stack", STACK, "--cwd", str(project), "--engine", "embedded"]
    return subprocess.run(
        [sys.executable, "-m", "objectstore_app", *command],
        env=os.environ | {"OBJECTSTORE_STATE_DIR": str(project.parent / "state")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_mistake_is_named_at_once_and_nothing_is_made(project: Path):
    refused = up(
        project,
        name="a-store-name-of17",
        domain="single",
        size="tiny",
        network__dhcpPool="10.80.0.32-10.80.0.239",
        network__dnsAddress="10.80.0.27",
        network__clientAddresses="10.80.0.30-10.80.0.32",
    )
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    for part in (
        "name: 'a-store-name-of17'",
        "this one has 17",
        "domain: 'single'",
        "size: 'tiny'",
        "network.dnsAddress: '10.80.0.27'",
        "network.clientAddresses: '10.80.0.32': lies inside the DHCP pool",
        "at least 4",
        "nothing was changed",
    ):
        assert part in said, said
    assert "Traceback" not in said
    assert not (project.parent / "state" / "stores").exists()


def test_an_unreachable_incus_is_named_with_what_starts_it(project: Path, tmp_path: Path):
    socket = str(tmp_path / "no.socket")
    refused = up(project, incusSocket=socket)
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert socket in said
    assert "start" in said
    assert "Traceback" not in said
