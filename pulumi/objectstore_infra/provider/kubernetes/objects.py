"""Create, update, read and delete of one object: apply, wait until it is so, compare.

The state of an object is what the cluster shows of it without its status, plus three members that
Pulumi's own plugin keeps as well: `__inputs` (what the program said), `__fieldManager` and
`__initialApiVersion`. A create is an apply: after an interrupted run it finds its own work.

Annotations of Pulumi's plugin that are understood: `pulumi.com/skipAwait`, `/timeoutSeconds` and
`/patchForce`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from objectstore_infra.provider.kubernetes import changes, readiness
from objectstore_infra.provider.kubernetes.api import (
    Cluster,
    ClusterError,
    Object,
    UnreachableError,
)
from objectstore_infra.provider.kubernetes.kinds import Kind, object_id
from objectstore_infra.provider.values import Record, has_unknown

FIELD_MANAGER = "pulumi-kubernetes"
INPUTS, MANAGER, API_VERSION = "__inputs", "__fieldManager", "__initialApiVersion"
SKIP_WAIT = "pulumi.com/skipAwait"
TIMEOUT = "pulumi.com/timeoutSeconds"
FORCE = "pulumi.com/patchForce"
TIMEOUT_S = 600.0
POLL_S = 1.0
# A line of progress at least this often, though it says the same.
SAY_AGAIN_S = 20.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Objects:
    """What is done to objects of one cluster."""

    cluster: Cluster
    force: bool = False
    """Take fields away from other managers."""
    delete_unreachable: bool = False
    """What lies in a cluster that does not answer counts as gone."""

    def create(self, kind: Kind, inputs: Record, say: Say) -> tuple[str, Record]:
        """Apply and wait; returns id and state."""
        live = self._apply(kind, inputs, FIELD_MANAGER)
        namespace, name = object_id(kind, inputs)
        live = self._wait(kind, inputs, live, say)
        return f"{namespace}/{name}" if namespace else name, state_of(inputs, live, FIELD_MANAGER)

    def update(self, kind: Kind, state: Record, inputs: Record, say: Say) -> Record:
        """Apply what the program says now, and wait; returns the state."""
        manager = str(state.get(MANAGER) or FIELD_MANAGER)
        live = self._wait(kind, inputs, self._apply(kind, inputs, manager), say)
        return state_of(inputs, live, manager)

    def preview(self, kind: Kind, state: Record | None, inputs: Record) -> None:
        """Let the API server judge what an apply would do. Raises what the apply would raise."""
        if has_unknown(inputs):
            return
        manager = str((state or {}).get(MANAGER) or FIELD_MANAGER)
        try:
            self._apply(kind, inputs, manager, dry=True)
        except ClusterError as refused:
            # A new object's namespace may be still to come.
            if state is not None or refused.status != 404:
                raise

    def read(
        self, kind: Kind, resource_id: str, state: Record, inputs: Record
    ) -> tuple[str, Record, Record] | None:
        """Return id, state and inputs as they are in the cluster; None when it is gone.

        With an empty id: what an interrupted create with these inputs left behind, if it is ours.
        """
        namespace, name = _parsed_id(kind, resource_id) if resource_id else object_id(kind, inputs)
        try:
            live = self.cluster.read(kind, namespace, name)
        except UnreachableError:
            if self.delete_unreachable:
                return None
            raise
        manager = str(state.get(MANAGER) or FIELD_MANAGER)
        if live is None or (not resource_id and not _applied_by(live, manager)):
            return None
        said = cast("Record", state.get(INPUTS) or inputs)
        seen = said
        if said and not has_unknown(said):
            wanted = self._apply(kind, said, manager, dry=True, force=True)
            seen = changes.drifted(
                said, changes.without_bookkeeping(wanted), changes.without_bookkeeping(live)
            )
        found = f"{namespace}/{name}" if namespace else name
        return found, state_of(seen, live, manager), seen

    def delete(self, kind: Kind, resource_id: str, state: Record, say: Say) -> None:
        """Delete the object with what it owns, and wait until it is gone; gone already is fine."""
        namespace, name = _parsed_id(kind, resource_id)
        deadline = time.monotonic() + _timeout_s(state)
        said = _Progress(say)
        try:
            self.cluster.delete(kind, namespace, name)
            while (live := self.cluster.read(kind, namespace, name)) is not None:
                if _annotation(state, SKIP_WAIT) == "true":
                    return
                missing = self._left(kind, namespace, live)
                if time.monotonic() > deadline:
                    raise ClusterError(f"{kind.name} {resource_id} is not gone: {missing}")
                said.report(f"is being deleted: {missing}")
                time.sleep(POLL_S)
        except UnreachableError:
            if not self.delete_unreachable:
                raise

    def _apply(
        self, kind: Kind, inputs: Record, manager: str, *, dry: bool = False, force: bool = False
    ) -> Object:
        force = force or self.force or _annotation(inputs, FORCE) == "true"
        return self.cluster.apply(kind, cast("Object", inputs), manager, force=force, dry=dry)

    def _wait(self, kind: Kind, inputs: Record, live: Object, say: Say) -> Object:
        if not kind.waits or _annotation(inputs, SKIP_WAIT) == "true":
            return live
        namespace, name = object_id(kind, inputs)
        deadline = time.monotonic() + _timeout_s(inputs)
        said = _Progress(say)
        while True:
            judged = readiness.verdict(live)
            if not judged.missing:
                return live
            if judged.failed or time.monotonic() > deadline:
                why = self._reasons(kind, namespace, live) or ["the cluster gives no reason"]
                raise ClusterError(
                    f"{kind.name} {name} does not get ready: {judged.missing}\n    "
                    + "\n    ".join(why)
                )
            said.report(judged.missing, partial(self._reasons, kind, namespace, live))
            time.sleep(POLL_S)
            present = self.cluster.read(kind, namespace, name)
            if present is None:
                raise ClusterError(f"{kind.name} {name} was deleted while it was waited for")
            live = present

    def _reasons(self, kind: Kind, namespace: str, live: Object) -> list[str]:
        labels = readiness.pod_labels(live)
        if not kind.namespaced or not labels:
            return []
        pods = self.cluster.pods(namespace, labels) if kind.owns_pods else []
        return readiness.reasons(live, pods, self.cluster.warnings(namespace))

    def _left(self, kind: Kind, namespace: str, live: Object) -> str:
        labels = readiness.pod_labels(live)
        if kind.owns_pods and labels and (pods := self.cluster.pods(namespace, labels)):
            return f"{len(pods)} pods left"
        metadata = live.get("metadata")
        finalizers = metadata.get("finalizers") if isinstance(metadata, Mapping) else None
        return f"waits for {finalizers}" if finalizers else "still there"


class _Progress:
    """Says what is waited for, when that is news or nothing was said for a while."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last, self._due = "", 0.0

    def report(self, line: str, reasons: Callable[[], list[str]] = list) -> None:
        """Say the line, with the first of the reasons; they are asked for only then."""
        if line == self._last and time.monotonic() < self._due:
            return
        self._last, self._due = line, time.monotonic() + SAY_AGAIN_S
        why = reasons()
        self._say(f"{line}; {why[0]}" if why else line)


def state_of(inputs: Record, live: Object, manager: str) -> Record:
    """Return what the stack's state keeps of an object."""
    metadata = live.get("metadata")
    kept = {key: value for key, value in live.items() if key != "status"}
    if isinstance(metadata, Mapping):
        volatile = ("managedFields", "resourceVersion")
        kept["metadata"] = {k: v for k, v in metadata.items() if k not in volatile}
    return {
        **cast("Record", kept),
        INPUTS: inputs,
        MANAGER: manager,
        API_VERSION: live.get("apiVersion"),
    }


def _parsed_id(kind: Kind, resource_id: str) -> tuple[str, str]:
    namespace, _, name = resource_id.rpartition("/")
    return (namespace or "default") if kind.namespaced else "", name


def _annotation(inputs: Record, name: str) -> str:
    metadata = inputs.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return str(annotations.get(name, "")) if isinstance(annotations, Mapping) else ""


def _timeout_s(inputs: Record) -> float:
    text = _annotation(inputs, TIMEOUT)
    return float(text) if text.isdigit() else TIMEOUT_S


def _applied_by(live: Object, manager: str) -> bool:
    metadata = live.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    return any(
        isinstance(entry, Mapping)
        and entry.get("manager") == manager
        and entry.get("operation") == "Apply"
        for entry in (entries if isinstance(entries, list) else [])
    )
