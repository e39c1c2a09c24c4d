"""Upgrades of a running deployment under load: one that works, one that must not, and back again.

The deployment is the one that OBJECTSTORE_INVENTORY names. The newer bundle is this tree under
another version, with all that lies beneath it raised too: Kubernetes' programs are of the same
sources, stamped one patch release higher, so that kubeadm's own checks and steps are what is
rehearsed; ZooKeeper's image has another tag; some packages are packed anew under a higher version.
The tests of this file build on each other, in their order.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes import client, config
from packaging.version import Version

from objectstore_infra import bundle
from objectstore_infra.artefacts import listing, source, trust
from objectstore_infra.artefacts.storage import sha256_of
from tests.ansible.load import Load
from tests.ansible.playbook import ROOT, Outcome, play, run

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(1600)]

HEALTHY = "ready = not any(reasons.values())"
BROKEN = f"""\
reasons["gate"] = "broken on purpose" if self.role == "metadata" else ""
        {HEALTHY}"""
SERVICES = ("object-controller", "iam", "metadata", "atlas")
RAISED = {"node-packages": ("containerd",), "ceph-packages": ("ceph-mon", "ceph-osd")}


@dataclass(frozen=True)
class Platform:
    """What the newer bundle has beneath the store."""

    kubernetes: str
    zookeeper: str
    ceph: str = ""


@dataclass(frozen=True)
class Deployment:
    """The store under test and the versions that this file takes it through."""

    inventory: dict
    kubeconfig: Path
    bundles: Path
    first: str
    newer: str
    broken: str
    platform: Platform

    def running(self) -> dict[str, set[str]]:
        """The versions of each service's pods."""
        return versions(self.kubeconfig)

    def all_run(self, version: str) -> bool:
        return self.running() == {name: {version} for name in SERVICES}

    @property
    def nodes(self) -> list[str]:
        return list(self.inventory["default"]["hosts"])

    def kubelets(self) -> set[str]:
        core = client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))
        return {node.status.node_info.kubelet_version for node in core.list_node().items}

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
    tree = copied_tree(tmp_path_factory.mktemp("tree"))
    platform = raised_platform(tree / source.DECLARED / "manifest.in")
    made = bundle.build(newer, root=tree, output=bundles)
    ceph = raised_packages(made.path, tmp_path_factory.mktemp("packages"))
    edited(tree / "objectstore_app" / "runtime" / "health.py", broken_in)
    made = bundle.build(broken, root=tree, output=bundles)
    raised_packages(made.path, tmp_path_factory.mktemp("packages"))
    platform = Platform(platform.kubernetes, platform.zookeeper, ceph)
    yield Deployment(inventory, kubeconfig, bundles, first, newer, broken, platform)
    shutil.rmtree(bundles)


def copied_tree(tree: Path) -> Path:
    for path in source.source_files(ROOT):
        (tree / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tree / path.relative_to(ROOT))
    return tree


def edited(path: Path, edit: Callable[[str], str]) -> None:
    before = path.read_text()
    path.write_text(edit(before))
    assert path.read_text() != before


def broken_in(text: str) -> str:
    return text.replace(HEALTHY, BROKEN)


def raised_platform(manifest: Path) -> Platform:
    """Let the manifest stamp Kubernetes one patch release higher, and give ZooKeeper a new tag."""
    minor, patch = re.findall(
        r'version = "v(\d+\.\d+)\.(\d+)"\nlayout = "kubernetes"', manifest.read_text()
    )[0]
    now, then = f"v{minor}.{patch}", f"v{minor}.{int(patch) + 1}"
    ensemble = re.findall(r'version = "(.+)"\nlayout = "zookeeper"', manifest.read_text())[0]
    edited(manifest, lambda text: text.replace(f'"{now}"', f'"{then}"'))
    edited(manifest, lambda text: text.replace("gitVersion=v{version}", f"gitVersion={then}"))
    tag = '"\nlayout = "zookeeper"'
    edited(manifest, lambda text: text.replace(f"{ensemble}{tag}", f"{ensemble}-1{tag}"))
    return Platform(then, f"{ensemble}-1")


def raised_packages(folder: Path, scratch: Path) -> str:
    """Pack some of the bundle's packages anew under a higher version; returns that of Ceph."""
    listed = listing.read(folder).listing
    for artefact in listed["artefacts"]:
        for file in artefact["files"] if artefact["name"] in RAISED else []:
            if file["name"].partition("_")[0] in RAISED[artefact["name"]]:
                old = folder / artefact["name"] / file["name"]
                new = repacked(old, scratch)
                old.unlink()
                file |= {"name": new.name, "size": new.stat().st_size, "sha256": sha256_of(new)}
        if artefact["name"] == "ceph-packages":
            artefact["version"] += ".1"
            ceph = artefact["version"]
    listing.write(folder, listed, trust.own_key())
    return ceph


def repacked(package: Path, scratch: Path) -> Path:
    """The same files as a package whose version ends in `.1`, beside it."""
    name, version, rest = package.name.split("_")
    tree = scratch / name
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    edited(control, lambda text: re.sub(r"^(Version: .*)$", r"\1.1", text, flags=re.MULTILINE))
    target = package.with_name(f"{name}_{version}.1_{rest}")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "-b", tree, target], check=True)
    shutil.rmtree(tree)
    return target


def reported(outcome: Outcome) -> dict:
    """The JSON report whose path the playbook printed."""
    line = next(line for line in outcome.output.splitlines() if "report: " in line)
    return json.loads(Path(line.partition("report: ")[2].strip(" '\"")).read_text())


def test_an_upgrade_of_everything_under_load_fails_no_call_and_loses_no_object(
    deployment: Deployment,
):
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
    moved = {row["name"]: (row["to"], row["state"]) for row in report["workloads"]}
    platform = deployment.platform
    expected = dict.fromkeys(SERVICES, (deployment.newer, "upgraded"))
    assert moved == expected | {"zookeeper": (platform.zookeeper, "upgraded")}
    assert {row["state"] for row in report["nodes"]} == {"upgraded"}
    assert deployment.kubelets() == {platform.kubernetes}


def test_what_was_installed_is_what_runs(deployment: Deployment):
    looked = run("ansible", "default", "-m", "ceph_status", "-a", "cluster=false")
    assert looked.output.count(" outdated: []\n") == len(deployment.nodes), looked.output
    version = f" version: {deployment.platform.ceph}\n"
    assert looked.output.count(version) == len(deployment.nodes), looked.output


def test_a_version_that_fails_its_gate_stops_at_that_service_which_is_undone(
    deployment: Deployment,
):
    with deployment.load() as load:
        outcome = deployment.upgrade(deployment.broken, upgrade_ready_timeout_s="60")
    assert outcome.code != 0
    assert "broken on purpose" in outcome.output
    assert load.failures == []
    assert load.lost() == []
    load.clean_up()
    assert deployment.running() == {
        **{name: {deployment.newer} for name in SERVICES},
        "object-controller": {deployment.broken},
        "iam": {deployment.broken},
    }
    report = reported(outcome)
    assert report["outcome"] == "stopped at metadata"
    assert "broken on purpose" in report["cause"]
    states = {row["name"]: row["state"] for row in report["workloads"]}
    assert (states["iam"], states["metadata"], states["atlas"]) == (
        "upgraded",
        "as before",
        "as before",
    )
    health = play("healthcheck")
    assert health.code != 0
    said = " ".join(health.output.split())
    verdicts = re.findall(r"Health of \S+: (.*?has not come to its end)", said)
    expected = f"cluster, upgrade: to {deployment.broken}, begun at "
    assert verdicts, said[-4000:]
    assert all(verdict.startswith(expected) for verdict in verdicts), verdicts
    assert f"playbooks/upgrade.yml -e version={deployment.broken}" in said


def test_an_older_release_is_refused_unless_asked_for(deployment: Deployment):
    outcome = deployment.upgrade(deployment.first)
    assert outcome.code != 0
    assert "upgrade_allow_downgrade" in outcome.output
    assert deployment.running()["metadata"] == {deployment.newer}


def test_a_damaged_bundle_is_refused_before_anything_changes(deployment: Deployment):
    damaged = deployment.bundles / "99.0.0"
    shutil.copytree(deployment.bundles / deployment.newer, damaged, copy_function=os.link)
    index = damaged / "objectstore-image" / "index.json"
    index.unlink()
    index.write_bytes(b"damage")
    outcome = deployment.upgrade("99.0.0")
    shutil.rmtree(damaged)
    assert outcome.code != 0
    assert "SHA-256" in outcome.output
    assert deployment.running()["metadata"] == {deployment.newer}


def test_the_way_back_under_load_touches_only_what_went_on(deployment: Deployment):
    with deployment.load() as load:
        outcome = deployment.upgrade(deployment.newer, upgrade_allow_downgrade="true")
    assert outcome.code == 0, outcome.output[-4000:]
    assert load.failures == []
    assert load.lost() == []
    load.clean_up()
    assert deployment.all_run(deployment.newer)
    report = reported(outcome)
    health = play("healthcheck")
    assert health.code == 0, health.output[-4000:]
    states = {row["name"]: row["state"] for row in (*report["workloads"], *report["nodes"])}
    taken_back = {name for name, state in states.items() if state != "was up to date"}
    assert taken_back == {"object-controller", "iam"}
