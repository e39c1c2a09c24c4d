"""Upgrades of a running deployment under load: one that works, one that must not, and back again.

The deployment is the one that OBJECTSTORE_INVENTORY names. The tests of this file build on each
other, in their order.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes import client, config
from packaging.version import Version

from objectstore_infra import bundle
from objectstore_infra.artefacts import source
from tests.ansible.load import Load
from tests.ansible.playbook import ROOT, Outcome, play

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(900)]

HEALTHY = "ready = not any(reasons.values())"
BROKEN = 'reasons["gate"] = "broken on purpose"\n        ready = False'


SERVICES = ("object-controller", "iam", "metadata", "atlas")


@dataclass(frozen=True)
class Deployment:
    """The store under test and the versions that this file takes it through."""

    inventory: dict
    kubeconfig: Path
    bundles: Path
    first: str
    newer: str
    broken: str

    def running(self) -> dict[str, set[str]]:
        """The versions of each service's pods."""
        return versions(self.kubeconfig)

    def all_run(self, version: str) -> bool:
        return self.running() == {name: {version} for name in SERVICES}

    def upgrade(self, version: str, **extra: str) -> Outcome:
        return play("upgrade", version=version, objectstore_bundles_dir=str(self.bundles), **extra)

    def load(self) -> Load:
        variables = self.inventory["all"]["vars"]
        return Load(
            f"http://{variables['objectstore_client_addresses'][0]}:7200",
            variables["objectstore_root_access_key"],
            variables["objectstore_root_secret_key"],
            f"upgrade-{uuid.uuid4().hex[:12]}",
        )


def versions(kubeconfig: Path) -> dict[str, set[str]]:
    """The versions of each service's pods, by the tags of their images."""
    core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    found: dict[str, set[str]] = {}
    for pod in core.list_namespaced_pod("objectstore").items:
        name = pod.metadata.labels["app.kubernetes.io/name"]
        if name in SERVICES and not pod.metadata.deletion_timestamp:
            tag = pod.spec.containers[0].image.rpartition(":")[2]
            found.setdefault(name, set()).add(tag.replace("_", "+"))
    return found


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    name = os.environ.get("OBJECTSTORE_INVENTORY")
    if not name:
        pytest.skip("OBJECTSTORE_INVENTORY names no deployment")
    inventory = json.loads(Path(name).read_text())
    kubeconfig = Path(name).parent / "kubeconfig"
    (first,) = versions(kubeconfig)["metadata"]
    release = Version(first).release
    newer, broken = (
        ".".join(map(str, (*release[:-1], release[-1] + step))) + f".dev{uuid.uuid4().int % 10**6}"
        for step in (1, 2)
    )
    bundles = tmp_path_factory.mktemp("bundles")
    (bundles / first).symlink_to(bundle.bundles_dir() / first)
    bundle.build(newer, output=bundles)
    tree = tmp_path_factory.mktemp("tree")
    for path in source.source_files(ROOT):
        (tree / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tree / path.relative_to(ROOT))
    health = tree / "objectstore_app" / "runtime" / "health.py"
    assert HEALTHY in health.read_text()
    health.write_text(health.read_text().replace(HEALTHY, BROKEN))
    bundle.build(broken, root=tree, output=bundles)
    yield Deployment(inventory, kubeconfig, bundles, first, newer, broken)
    shutil.rmtree(bundles)


def reported(outcome: Outcome) -> dict:
    """The JSON report whose path the playbook printed."""
    line = next(line for line in outcome.output.splitlines() if "report: " in line)
    return json.loads(Path(line.partition("report: ")[2].strip(" '\"")).read_text())


def test_an_upgrade_under_load_fails_no_call_and_loses_no_object(deployment: Deployment):
    with deployment.load() as load:
        outcome = deployment.upgrade(deployment.newer)
    print(f"{load.calls} calls, the longest {load.longest_s:.1f} s, {len(load.ledger)} objects")
    assert outcome.code == 0, outcome.output[-4000:]
    assert load.failures == []
    assert load.lost() == []
    assert load.calls > 100
    load.clean_up()
    assert deployment.all_run(deployment.newer)
    report = reported(outcome)
    assert report["outcome"] == "done"
    moved = {row["name"]: (row["from"], row["to"], row["state"]) for row in report["workloads"]}
    assert moved == dict.fromkeys(SERVICES, (deployment.first, deployment.newer, "upgraded"))


def test_an_upgrade_to_what_runs_changes_nothing(deployment: Deployment):
    outcome = deployment.upgrade(deployment.newer)
    assert outcome.code == 0, outcome.output[-4000:]
    assert {row["state"] for row in reported(outcome)["workloads"]} == {"was up to date"}


def test_a_version_that_fails_its_gate_stops_at_the_first_service_and_is_undone(
    deployment: Deployment,
):
    with deployment.load() as load:
        outcome = deployment.upgrade(deployment.broken, upgrade_ready_timeout_s="30")
    assert outcome.code != 0
    assert "broken on purpose" in outcome.output
    assert load.failures == []
    assert load.lost() == []
    load.clean_up()
    assert deployment.all_run(deployment.newer)
    report = reported(outcome)
    assert report["outcome"] == f"stopped at {SERVICES[0]}"
    assert "broken on purpose" in report["cause"]
    assert {row["state"] for row in report["workloads"]} == {"as before"}
    health = play("healthcheck")
    assert health.code == 0, health.output[-4000:]


def test_an_older_release_is_refused_unless_asked_for(deployment: Deployment):
    outcome = deployment.upgrade(deployment.first)
    assert outcome.code != 0
    assert "upgrade_allow_downgrade" in outcome.output
    assert deployment.all_run(deployment.newer)


def test_a_damaged_bundle_is_refused_before_anything_changes(deployment: Deployment):
    damaged = deployment.bundles / "99.0.0"
    shutil.copytree(deployment.bundles / deployment.newer, damaged)
    index = damaged / "objectstore-image" / "index.json"
    index.chmod(0o644)
    index.write_bytes(b"damage")
    outcome = deployment.upgrade("99.0.0")
    shutil.rmtree(damaged)
    assert outcome.code != 0
    assert "SHA-256" in outcome.output
    assert deployment.all_run(deployment.newer)


def test_the_way_back_under_load(deployment: Deployment):
    with deployment.load() as load:
        outcome = deployment.upgrade(deployment.first, upgrade_allow_downgrade="true")
    assert outcome.code == 0, outcome.output[-4000:]
    assert load.failures == []
    assert load.lost() == []
    load.clean_up()
    assert deployment.all_run(deployment.first)
