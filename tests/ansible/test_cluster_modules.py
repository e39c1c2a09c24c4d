"""What the modules of the Kubernetes cluster conclude from what its commands print."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.ansible.plugins import plugin

etcd = plugin("modules", "etcd_member")
pods = plugin("modules", "static_pods")
certificates = plugin("modules", "kubeadm_certificates")
kubeadm = plugin("modules", "kubeadm_node")

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
