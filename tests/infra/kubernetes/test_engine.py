"""Kubernetes' resources under the embedded engine: previews, secrets, drift, replacement, ends."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from objectstore_infra.provider.kubernetes.objects import Objects
from tests.infra.engine.conftest import Sandbox
from tests.infra.kubernetes.control_plane import ControlPlane
from tests.infra.kubernetes.objects import CONFIG_MAP, SECRET, Kubelet, named

# A run of the engine takes seconds of the processor, and on a busy machine many more by the clock.
pytestmark = pytest.mark.timeout(400)
KEY = base64.b64encode(b"the key that nobody may see").decode()


class Stack:
    """A sandbox with the program of this folder."""

    def __init__(self, root: Path, plane: ControlPlane, namespace: str) -> None:
        self.sandbox = Sandbox(root)
        self._plane = plane
        self._wanted: dict[str, Any] = {
            "namespace": namespace,
            "data": {"one": "1"},
            "secret": "hidden",
            "key": KEY,
            "lies_in": False,
        }
        self.namespace = namespace
        project = self.sandbox.project
        shutil.copy(Path(__file__).with_name("program.py"), project / "__main__.py")
        (project / "kubeconfig").write_text(plane.kubeconfig)
        self.want()

    def want(self, **changes: Any) -> None:
        """Change what the program declares."""
        self._wanted |= changes
        (self.sandbox.project / "objects.json").write_text(json.dumps(self._wanted))

    def live(self, name: str = "shown") -> Any:
        """The object in the cluster."""
        kind = CONFIG_MAP if name == "shown" else SECRET
        return self._plane.cluster.read(kind, self.namespace, name)


@pytest.fixture
def deployed(tmp_path: Path, plane: ControlPlane, namespace: str) -> Stack:
    """A stack that is not up yet."""
    return Stack(tmp_path, plane, namespace)


def test_a_preview_does_not_know_the_cluster_yet(deployed: Stack) -> None:
    shown = deployed.sandbox.run("preview")
    assert "its provider's settings are not known yet" in shown
    assert deployed.live() is None


def test_a_second_run_changes_nothing_and_a_change_is_shown(deployed: Stack) -> None:
    deployed.sandbox.run("up")
    assert deployed.live()["data"] == {"one": "1"}
    shown = deployed.sandbox.run("up")
    assert "unchanged" in shown
    assert "created" not in shown
    assert "updated" not in shown
    deployed.want(data={"one": "1", "two": "2"})
    assert '+ data.two: "2"' in deployed.sandbox.run("preview")
    assert deployed.live()["data"] == {"one": "1"}
    deployed.sandbox.run("up")
    assert deployed.live()["data"] == {"one": "1", "two": "2"}


def test_secrets_are_nowhere_to_be_read(deployed: Stack) -> None:
    shown = deployed.sandbox.run("up")
    shown += deployed.sandbox.run("refresh")
    shown += deployed.sandbox.run("export")
    assert deployed.live("hidden")["data"] == {"key": KEY}
    assert KEY not in shown
    assert KEY not in deployed.sandbox.state_file.read_text()
    assert "kubernetes:core/v1:Secret" in shown


def test_what_was_changed_by_hand_is_seen_and_put_right_by_force(
    deployed: Stack, objects: Objects
) -> None:
    deployed.sandbox.run("up")
    edited = named(CONFIG_MAP, "shown", deployed.namespace, data={"one": "edited"})
    objects.cluster.apply(CONFIG_MAP, edited, "kubectl-edit", force=True)
    assert "data" in deployed.sandbox.run("refresh")
    shown = deployed.sandbox.run("up", code=1)
    assert ".data.one" in shown
    assert "kubectl-edit" in shown
    deployed.sandbox.run("up", PULUMI_K8S_ENABLE_PATCH_FORCE="true")
    assert deployed.live()["data"] == {"one": "1"}


def test_what_was_deleted_by_hand_is_made_again(deployed: Stack, plane: ControlPlane) -> None:
    deployed.sandbox.run("up")
    Kubelet(plane.cluster).delete_config_map("shown", deployed.namespace)
    assert "is gone" in deployed.sandbox.run("refresh")
    deployed.sandbox.run("up")
    assert deployed.live()["data"] == {"one": "1"}


def test_another_name_is_another_object(deployed: Stack) -> None:
    deployed.sandbox.run("up")
    deployed.want(secret="other")
    deployed.sandbox.run("up")
    assert deployed.live("hidden") is None
    assert deployed.live("other")["data"] == {"key": KEY}


def test_objects_are_deleted_one_by_one_or_with_what_they_lie_in(deployed: Stack) -> None:
    deployed.sandbox.run("up")
    deployed.sandbox.run("destroy")
    assert deployed.live() is None
    deployed.want(lies_in=True)
    deployed.sandbox.run("up")
    assert "goes with platform" in deployed.sandbox.run("destroy")
    assert deployed.live()["data"] == {"one": "1"}
    assert not deployed.sandbox.resources()
