"""Apply, conflicts, waits, drift and deletes against a real API server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from objectstore_infra.errors import InfraError
from objectstore_infra.provider.kubernetes import kinds
from objectstore_infra.provider.kubernetes.api import (
    Access,
    Cluster,
    ClusterError,
    FieldConflictError,
    UnreachableError,
)
from objectstore_infra.provider.kubernetes.objects import Objects
from objectstore_infra.provider.values import UNKNOWN
from tests.infra.kubernetes.control_plane import ControlPlane
from tests.infra.kubernetes.objects import (
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    NAMESPACE,
    SECRET,
    STATEFUL_SET,
    Kubelet,
    named,
    workload,
)


def quiet(line: str) -> None:
    """Nobody reads it."""


@contextmanager
def kubelet(plane: ControlPlane, namespace: str, app: str) -> Iterator[None]:
    """Make the app's pods ready as long as the block lasts."""
    ended = threading.Event()
    agent = Kubelet(plane.cluster)

    def work() -> None:
        while not ended.wait(0.2):
            agent.start_pods(namespace, app)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_an_object_is_created_changed_and_deleted(objects: Objects, namespace: str) -> None:
    wanted = named(CONFIG_MAP, "a", namespace, data={"one": "1", "two": "2"})
    found, state = objects.create(CONFIG_MAP, wanted, quiet)
    assert found == f"{namespace}/a"
    changed = named(CONFIG_MAP, "a", namespace, data={"one": "1"})
    after = objects.update(CONFIG_MAP, state, changed, quiet)
    assert after["data"] == {"one": "1"}
    objects.delete(CONFIG_MAP, found, after, quiet)
    assert objects.read(CONFIG_MAP, found, after, changed) is None
    objects.delete(CONFIG_MAP, found, after, quiet)


def test_a_repeated_create_finds_its_own_work(objects: Objects, namespace: str) -> None:
    wanted = named(CONFIG_MAP, "a", namespace, data={"one": "1"})
    assert objects.read(CONFIG_MAP, "", {}, wanted) is None
    first = objects.create(CONFIG_MAP, wanted, quiet)
    found = objects.read(CONFIG_MAP, "", {}, wanted)
    assert found is not None
    assert found[0] == first[0]
    assert objects.create(CONFIG_MAP, wanted, quiet) == first


def test_what_others_made_is_not_taken_for_ours(objects: Objects, namespace: str) -> None:
    theirs = named(CONFIG_MAP, "kube-root-ca.crt", namespace)
    objects.cluster.apply(CONFIG_MAP, theirs, "somebody")
    assert objects.read(CONFIG_MAP, "", {}, theirs) is None


def test_a_conflict_names_field_and_manager(objects: Objects, namespace: str) -> None:
    wanted = named(CONFIG_MAP, "a", namespace, data={"one": "1"})
    _, state = objects.create(CONFIG_MAP, wanted, quiet)
    edited = named(CONFIG_MAP, "a", namespace, data={"one": "edited"})
    objects.cluster.apply(CONFIG_MAP, edited, "kubectl-edit", force=True)
    for attempt in (
        lambda: objects.update(CONFIG_MAP, state, wanted, quiet),
        lambda: objects.preview(CONFIG_MAP, state, wanted),
    ):
        with pytest.raises(FieldConflictError) as refused:
            attempt()
        assert ".data.one" in refused.value.message
        assert "kubectl-edit" in refused.value.message
        assert "PULUMI_K8S_ENABLE_PATCH_FORCE" in refused.value.hint
    forced = replace(objects, force=True).update(CONFIG_MAP, state, wanted, quiet)
    assert forced["data"] == {"one": "1"}


def test_a_read_sees_what_was_changed_by_hand_and_nothing_else(
    objects: Objects, namespace: str
) -> None:
    wanted = workload(DEPLOYMENT, "web", namespace, replicas=0)
    found, state = objects.create(DEPLOYMENT, wanted, quiet)
    unchanged = objects.read(DEPLOYMENT, found, state, wanted)
    assert unchanged is not None
    assert unchanged[2] == wanted  # though the server filled in two dozen defaults
    edited = workload(DEPLOYMENT, "web", namespace, replicas=0, image="none:2")
    objects.cluster.apply(DEPLOYMENT, edited, "kubectl-edit", force=True)
    seen = objects.read(DEPLOYMENT, found, state, wanted)
    assert seen is not None
    assert seen[2] == edited


def test_a_read_sees_what_was_taken_away(
    objects: Objects, plane: ControlPlane, namespace: str
) -> None:
    wanted = named(CONFIG_MAP, "a", namespace, data={"one": "1", "two": "2"})
    found, state = objects.create(CONFIG_MAP, wanted, quiet)
    Kubelet(plane.cluster).take_from_config_map("a", namespace, "two")
    seen = objects.read(CONFIG_MAP, found, state, wanted)
    assert seen is not None
    assert seen[2]["data"] == {"one": "1"}


def test_quantities_written_otherwise_are_no_drift(objects: Objects, namespace: str) -> None:
    wanted: Any = workload(DEPLOYMENT, "web", namespace, replicas=0)
    container = wanted["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"requests": {"cpu": "1000m", "memory": "1024Mi"}}
    found, state = objects.create(DEPLOYMENT, wanted, quiet)
    seen = objects.read(DEPLOYMENT, found, state, wanted)
    assert seen is not None
    assert seen[2] == wanted


@pytest.mark.parametrize("kind", [DEPLOYMENT, STATEFUL_SET], ids=lambda kind: kind.name)
def test_a_workload_is_made_when_its_pods_are_ready(
    objects: Objects, plane: ControlPlane, namespace: str, kind: kinds.Kind
) -> None:
    said: list[str] = []
    wanted = workload(kind, "web", namespace, replicas=2)
    with kubelet(plane, namespace, "web"):
        found, state = objects.create(kind, wanted, said.append)
        renewed = workload(kind, "web", namespace, replicas=2, image="none:2")
        objects.update(kind, state, renewed, said.append)
    live = objects.cluster.read(kind, namespace, "web")
    assert live is not None
    assert live["status"]["updatedReplicas"] == 2
    assert any("of 2 pods" in line or "not seen" in line for line in said)
    objects.delete(kind, found, state, quiet)
    assert objects.cluster.pods(namespace, {"app": "web"}) == []


def test_a_workload_that_does_not_come_is_explained(
    objects: Objects, plane: ControlPlane, namespace: str
) -> None:
    soon = {"annotations": {"pulumi.com/timeoutSeconds": "3"}}
    wanted = workload(STATEFUL_SET, "web", namespace, metadata=soon)
    failing = threading.Timer(
        1.0, Kubelet(plane.cluster).fail_pods, (namespace, "web", "ErrImageNeverPull", "no none:1")
    )
    failing.start()
    with pytest.raises(ClusterError, match="0 of 1 pods ready") as failed:
        objects.create(STATEFUL_SET, wanted, quiet)
    failing.join()
    assert "web-0/main: ErrImageNeverPull: no none:1" in failed.value.message


def test_a_wait_can_be_left_out(objects: Objects, namespace: str) -> None:
    skipped = {"annotations": {"pulumi.com/skipAwait": "true"}}
    began = time.monotonic()
    objects.create(DEPLOYMENT, workload(DEPLOYMENT, "web", namespace, metadata=skipped), quiet)
    assert time.monotonic() - began < 5


def test_a_disruption_budget_is_made_when_its_pods_are_healthy(
    objects: Objects, plane: ControlPlane, namespace: str
) -> None:
    budget = named(
        BUDGET,
        "web",
        namespace,
        spec={"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    )
    with kubelet(plane, namespace, "web"):
        objects.create(STATEFUL_SET, workload(STATEFUL_SET, "web", namespace, replicas=2), quiet)
        objects.create(BUDGET, budget, quiet)
    live = objects.cluster.read(BUDGET, namespace, "web")
    assert live is not None
    assert live["status"]["currentHealthy"] == 2


def test_an_invalid_object_is_refused_in_the_preview_already(
    objects: Objects, namespace: str
) -> None:
    wrong = named(SECRET, "a", namespace, data={"key": "not base64!"})
    with pytest.raises(ClusterError, match="illegal base64"):
        objects.preview(SECRET, None, wrong)
    assert objects.cluster.read(SECRET, namespace, "a") is None


def test_a_preview_changes_nothing_and_takes_what_is_not_known(
    objects: Objects, namespace: str
) -> None:
    objects.preview(CONFIG_MAP, None, named(CONFIG_MAP, "a", namespace, data={"one": "1"}))
    objects.preview(CONFIG_MAP, None, named(CONFIG_MAP, "b", "no-such-namespace"))
    objects.preview(CONFIG_MAP, None, named(CONFIG_MAP, "c", namespace, data={"one": UNKNOWN}))
    for name in ("a", "c"):
        assert objects.cluster.read(CONFIG_MAP, namespace, name) is None


def test_a_namespace_goes_with_what_lies_in_it(objects: Objects, namespace: str) -> None:
    objects.create(CONFIG_MAP, named(CONFIG_MAP, "a", namespace), quiet)
    objects.delete(NAMESPACE, namespace, {}, quiet)
    assert objects.cluster.read(NAMESPACE, "", namespace) is None


def test_an_api_server_that_does_not_answer_is_named() -> None:
    nowhere = Cluster(Access("http://127.0.0.1:9", None), unreachable_s=0.1)
    objects = Objects(nowhere)
    with pytest.raises(UnreachableError, match=r"does not answer at http://127\.0\.0\.1:9"):
        objects.read(CONFIG_MAP, "a/b", {}, {})
    with pytest.raises(UnreachableError):
        objects.delete(CONFIG_MAP, "a/b", {}, quiet)
    forgetting = Objects(nowhere, delete_unreachable=True)
    assert forgetting.read(CONFIG_MAP, "a/b", {}, {}) is None
    forgetting.delete(CONFIG_MAP, "a/b", {}, quiet)


def test_a_kubeconfig_without_certificates_of_its_own_is_refused() -> None:
    with pytest.raises(ClusterError, match="the kubeconfig cannot be used"):
        Access.from_kubeconfig("clusters: []")


def test_a_kind_that_is_not_applied_is_refused_by_name() -> None:
    with pytest.raises(InfraError, match="no kubernetes:batch/v1:Job"):
        kinds.kind_of("kubernetes:batch/v1:Job")
