"""What the modules of the Kubernetes cluster conclude from what its commands print."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.ansible.plugins import plugin

etcd = plugin("modules", "etcd_member")
pods = plugin("modules", "static_pods")
certificates = plugin("modules", "kubeadm_certificates")
kubeadm = plugin("modules", "kubeadm_node")
control_plane = kubeadm.control_plane

MANIFEST = """\
apiVersion: v1
kind: Pod
metadata:
  labels:
    component: kube-scheduler
  name: kube-scheduler
spec:
  containers:
  - command: [kube-scheduler]
"""
ANNOTATED = MANIFEST.replace("  labels:", "  annotations:\n    other: kept\n  labels:")


@pytest.mark.parametrize("manifest", [MANIFEST, ANNOTATED])
def test_a_mark_changes_an_annotation_and_nothing_else(manifest: str):
    first = pods.marked(manifest, "1")
    second = pods.marked(first, "2")
    before, after = yaml.safe_load(manifest), yaml.safe_load(second)
    annotations = after["metadata"].pop("annotations")
    others = before["metadata"].pop("annotations", {})
    assert annotations == others | {pods.ANNOTATION: "2"}
    assert after == before
    assert pods.marked(second, "2") == second


def test_pods_that_were_started_before_a_file_changed_are_the_ones_to_restart(tmp_path: Path):
    for name, time_ns in (("etcd", 1000), ("kube-apiserver", 3000)):
        (tmp_path / f"{name}.yaml").write_text(MANIFEST)
        os.utime(tmp_path / f"{name}.yaml", ns=(time_ns, time_ns))
    certificate = tmp_path / "apiserver.crt"
    certificate.touch()
    os.utime(certificate, ns=(2000, 2000))
    assert [file.stem for file in pods.older(tmp_path, certificate)] == ["etcd"]


def test_members_of_etcd_are_told_by_node_and_learners_are_seen():
    said = {
        "members": [
            {
                "ID": 0xAB12,
                "name": "default-0",
                "peerURLs": ["https://192.0.2.10:2380"],
                "clientURLs": ["https://192.0.2.10:2379"],
            },
            {"ID": 2, "peerURLs": ["https://192.0.2.11:2380"], "isLearner": True},
        ]
    }
    first, second = etcd.parsed_members(json.dumps(said))
    assert (first["id"], first["name"], first["learner"]) == ("ab12", "default-0", False)
    assert first["client"] == "https://192.0.2.10:2379"
    assert (second["name"], second["client"], second["learner"]) == ("", "", True)


def test_health_is_read_from_the_line_of_json_among_the_warnings():
    said = '{"level":"warn"}\n[{"endpoint":"a","health":true},{"endpoint":"b","health":false}]\n'
    assert etcd.healthy(said) == {"a"}
    assert etcd.healthy("unreachable\n") == set()


def test_a_restored_member_knows_all_others_and_a_token_of_its_own():
    command = etcd.restore_command(
        {
            "path": "/x.db",
            "name": "b",
            "members": {"a": "192.0.2.1", "b": "192.0.2.2"},
            "token": "T",
        }
    )
    assert "--initial-cluster=a=https://192.0.2.1:2380,b=https://192.0.2.2:2380" in command
    assert "--initial-advertise-peer-urls=https://192.0.2.2:2380" in command
    assert "--initial-cluster-token=T" in command
    assert "--mark-compacted" in command


def test_certificates_end_in_days_and_missing_ones_do_not_count():
    said = {
        "certificates": [
            {"name": "apiserver", "residualTime": 3 * 86_400 + 5, "missing": False},
            {"name": "super-admin.conf", "residualTime": 0, "missing": True},
        ],
        "certificateAuthorities": [{"name": "ca", "residualTime": 86_400, "missing": False}],
    }
    days = certificates.days_left(json.dumps(said))
    assert days == {"apiserver": 3, "ca": 1}
    assert certificates.ending(days, 4) == ["apiserver"]
    assert certificates.ending(days, 3) == []


def test_access_is_made_again_where_a_run_ended_before_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    admin, deployer = tmp_path / "admin.conf", tmp_path / "deployer.conf"
    admin.write_text("administrator")
    deployer.touch()
    monkeypatch.setattr(kubeadm, "ADMIN", admin)
    monkeypatch.setattr(kubeadm, "DEPLOYER", deployer)
    monkeypatch.setattr(kubeadm, "kubeadm", lambda *argv: "deployer")
    first = kubeadm.access({"cluster_file": "c"}, False)
    assert (first["changed"], first["kubeconfig_deployer"]) == (True, "deployer")
    assert not kubeadm.access({"cluster_file": "c"}, False)["changed"]
    assert deployer.stat().st_mode & 0o777 == 0o600


def test_what_an_interrupted_run_left_is_undone_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    called = []
    monkeypatch.setattr(kubeadm, "kubeadm", lambda *argv: called.append(argv[0]))
    monkeypatch.setattr(kubeadm, "MARKER", tmp_path / "member.json")
    monkeypatch.setattr(kubeadm, "LEFT_BEHIND", (tmp_path / "kubelet.conf",))
    for name in ("ETC", "ETCD_DATA", "DEPLOYER", "KUBELET_KEYS"):
        monkeypatch.setattr(kubeadm, name, tmp_path / name)
    kubeadm.cleared()
    assert called == []
    (tmp_path / "kubelet.conf").touch()
    kubeadm.cleared()
    assert called == ["reset"]


KUBELET_RESTART = "systemctl restart kubelet.service"
ETCD = "    image: objectstore.internal/etcd:3.6.5-0\n"


@pytest.fixture
def member_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A member whose cluster file changed after it joined; what kubeadm is asked is noted."""
    asked: list[str] = []
    (tmp_path / "cluster.yaml").write_text("kubernetesVersion: v1.34.5\n")
    monkeypatch.setattr(kubeadm, "MARKER", tmp_path / "member.json")
    kubeadm.MARKER.write_text('{"name": "d0", "settings": "of before"}\n')
    monkeypatch.setattr(kubeadm, "told", lambda _text, *argv: asked.append(" ".join(argv[:3])))
    monkeypatch.setattr(kubeadm, "run", lambda *argv, **_: asked.append(" ".join(argv)))
    monkeypatch.setattr(kubeadm, "not_upgraded", lambda *_: "")
    monkeypatch.setattr(kubeadm, "KUBELET_SETTINGS", (tmp_path / "config.yaml",))
    monkeypatch.setattr(kubeadm, "PATCHES", tmp_path / "patches")
    monkeypatch.setattr(kubeadm, "MANIFESTS", tmp_path / "manifests")
    monkeypatch.setattr(kubeadm, "renewed_at_once", lambda _: asked.append("at once"))
    monkeypatch.setattr(control_plane, "ASIDE", tmp_path / "aside")
    kubeadm.MANIFESTS.mkdir()
    (kubeadm.MANIFESTS / "etcd.yaml").write_text(ETCD)
    return asked


def upgrade_of(tmp_path: Path, **changes: object) -> dict:
    given = {
        "name": "d0",
        "version": "v1.34.5",
        "cluster_file": str(tmp_path / "cluster.yaml"),
        "etcd_image": "objectstore.internal/etcd:3.6.5-0",
        "leads": False,
        "timeout_s": 0,
    }
    result: dict = kubeadm.upgraded(given | changes, False)
    return result


def test_the_first_node_upgrades_what_the_cluster_shares_and_the_others_themselves(
    tmp_path: Path, member_node: list[str]
):
    assert upgrade_of(tmp_path, leads=True)["changed"]
    assert member_node == ["init phase upload-config", "at once", "upgrade apply --yes"]
    assert not upgrade_of(tmp_path, leads=True)["changed"]
    (tmp_path / "cluster.yaml").write_text("kubernetesVersion: v1.34.6\n")
    member_node.clear()
    assert upgrade_of(tmp_path)["changed"]
    assert member_node == ["at once", "upgrade node"]


def test_a_patch_of_the_control_plane_is_a_setting_too(tmp_path: Path, member_node: list[str]):
    assert upgrade_of(tmp_path)["changed"]
    kubeadm.PATCHES.mkdir()
    (kubeadm.PATCHES / "kube-apiserver+strategic.yaml").write_text("spec: {}\n")
    assert upgrade_of(tmp_path)["changed"]
    assert not upgrade_of(tmp_path)["changed"]


def test_the_kubelet_is_restarted_for_settings_that_kubeadm_changed(
    tmp_path: Path, member_node: list[str], monkeypatch: pytest.MonkeyPatch
):
    def told(_text: str, *argv: str) -> None:
        member_node.append(" ".join(argv))
        (tmp_path / "config.yaml").write_text("new")

    monkeypatch.setattr(kubeadm, "told", told)
    upgrade_of(tmp_path)
    assert member_node == ["at once", "upgrade node", KUBELET_RESTART]


def test_where_etcd_changes_kubeadm_renews_the_control_plane_in_its_order(
    tmp_path: Path, member_node: list[str]
):
    (kubeadm.MANIFESTS / "etcd.yaml").write_text(ETCD.replace("3.6.5-0", "3.6.4-0"))
    upgrade_of(tmp_path)
    assert member_node == ["upgrade node", KUBELET_RESTART]


@pytest.mark.parametrize(("runs", "upgraded"), [("3.6.5-0", "false"), ("3.6.4-0", "true")])
def test_etcd_is_restarted_for_another_version_alone(
    tmp_path: Path,
    member_node: list[str],
    monkeypatch: pytest.MonkeyPatch,
    runs: str,
    upgraded: str,
):
    texts = []
    monkeypatch.setattr(kubeadm, "told", lambda text, *_: texts.append(text))
    (kubeadm.MANIFESTS / "etcd.yaml").write_text(ETCD.replace("3.6.5-0", runs))
    upgrade_of(tmp_path)
    told = yaml.safe_load(texts[0])
    assert (told["node"]["etcdUpgrade"], told["apply"]["etcdUpgrade"]) == (upgraded == "true",) * 2


def test_a_node_that_is_not_ready_with_its_version_is_upgraded_again(
    tmp_path: Path, member_node: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kubeadm, "not_upgraded", lambda *_: "kubelet is v1.34.4")
    monkeypatch.setattr(kubeadm, "renewed_at_once", kubeadm.kubelet_restarted)
    with pytest.raises(kubeadm.CommandError, match=r"kubelet is v1\.34\.4"):
        upgrade_of(tmp_path)
    monkeypatch.setattr(kubeadm, "not_upgraded", lambda *_: "")
    assert upgrade_of(tmp_path)["changed"]
    assert member_node == [KUBELET_RESTART, KUBELET_RESTART, "upgrade node"]


@pytest.fixture
def node_with_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node whose kubelet takes a pod away one look after its file is gone; it answers at once."""
    manifests = tmp_path / "manifests"
    for component in control_plane.COMPONENTS:
        (manifests).mkdir(exist_ok=True)
        (manifests / f"{component}.yaml").write_text("old")
        (tmp_path / "pods" / component / "containers" / component).mkdir(parents=True)
    looks = 0

    def look() -> str:
        nonlocal looks
        looks += 1
        if looks > 1:
            shutil.rmtree(tmp_path / "pods", ignore_errors=True)
        return still_there()

    still_there = control_plane.still_there
    monkeypatch.setattr(control_plane, "still_there", look)
    monkeypatch.setattr(control_plane, "not_answering", lambda: "")
    monkeypatch.setattr(control_plane, "PODS", tmp_path / "pods")
    monkeypatch.setattr(control_plane, "ASIDE", tmp_path / "aside")
    monkeypatch.setattr(control_plane, "MANIFESTS", manifests)
    monkeypatch.setattr(control_plane, "SETTLE_S", 0)
    monkeypatch.setitem(control_plane.until.__globals__, "POLL_S", 0)
    return manifests


def contents(manifests: Path) -> set[str]:
    found = {file.stem: file.read_text() for file in manifests.iterdir()}
    assert found.keys() == set(control_plane.COMPONENTS)
    return set(found.values())


def write_new(manifests: Path) -> None:
    assert list(manifests.iterdir()) == []
    assert not control_plane.PODS.exists(), "an old pod is still there: the new one would wait"
    for component in control_plane.COMPONENTS:
        (manifests / f"{component}.yaml").write_text("new")


def test_new_files_of_the_control_plane_come_when_all_old_pods_are_gone(node_with_pods: Path):
    control_plane.replaced(lambda: write_new(node_with_pods), 5)
    assert contents(node_with_pods) == {"new"}
    assert list(control_plane.ASIDE.iterdir()) == []


def test_a_control_plane_that_does_not_answer_is_put_back(
    node_with_pods: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(control_plane, "not_answering", lambda: "connection refused")
    with pytest.raises(kubeadm.CommandError, match="refused"):
        control_plane.replaced(lambda: write_new(node_with_pods), 0.1)
    assert contents(node_with_pods) == {"old"}


def test_a_run_that_was_cut_off_between_gives_the_node_its_control_plane_back(
    node_with_pods: Path,
):
    def cut_off() -> None:
        (node_with_pods / "kube-scheduler.yaml").write_text("new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        control_plane.replaced(cut_off, 5)
    assert control_plane.put_back() == ["kube-apiserver", "kube-controller-manager"]
    assert contents(node_with_pods) == {"old", "new"}
    assert control_plane.put_back() == []


def test_a_node_is_upgraded_when_kubelet_and_control_plane_are_of_the_version_and_ready(
    monkeypatch: pytest.MonkeyPatch,
):
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    node = {"status": ready | {"nodeInfo": {"kubeletVersion": "v1.34.5"}}}
    pods = [
        {
            "metadata": {"labels": {"component": component}},
            "spec": {"containers": [{"image": f"objectstore.internal/{component}:{tag}"}]},
            "status": ready,
        }
        for component, tag in (("etcd", "3.6.5-0"), ("kube-apiserver", "v1.34.5"))
    ]
    answers = {"node": node, "pods": {"items": pods}}
    monkeypatch.setattr(
        kubeadm, "kubectl", lambda *argv: json.dumps(answers["node" if "node" in argv else "pods"])
    )
    assert kubeadm.not_upgraded("d0", "v1.34.5") == ""
    pods[0]["status"] = {}
    said = kubeadm.not_upgraded("d0", "v1.34.6")
    assert "kubelet is v1.34.5, etcd, kube-apiserver is" in said


COREDNS = """\
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: coredns
spec:
  replicas: 2
  strategy:
    type: RollingUpdate
---
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  resourceVersion: "0"
spec:
  clusterIP: 10.96.0.10
"""


def test_each_node_has_a_name_server_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cluster.yaml").touch()
    monkeypatch.setattr(kubeadm, "told", lambda *_: COREDNS)
    mark, text = kubeadm.name_service(str(tmp_path / "cluster.yaml"))
    server, service = yaml.safe_load_all(text)
    assert server["kind"] == "DaemonSet"
    assert server["metadata"] == {
        "name": "coredns",
        "annotations": {kubeadm.DNS_ANNOTATION: mark},
    }
    assert server["spec"] == {"updateStrategy": {"type": "RollingUpdate"}}
    assert service["metadata"] == {"name": "kube-dns"}
    assert service["spec"] == {"internalTrafficPolicy": "Local", "clusterIP": "10.96.0.10"}


def test_a_name_service_that_kubeadm_declares_in_another_way_is_not_guessed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "cluster.yaml").touch()
    monkeypatch.setattr(kubeadm, "told", lambda *_: COREDNS.replace("replicas: 2", "replicas: 3"))
    with pytest.raises(kubeadm.CommandError, match="replicas"):
        kubeadm.name_service(str(tmp_path / "cluster.yaml"))
