"""Whether the cluster has brought an object to what it says, and if not, what is in the way.

Pure: works on objects as the API shows them. `verdict` looks at the object alone and is asked again
and again; `reasons` explains with its pods and warnings, for when it does not come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from objectstore_infra.provider.kubernetes.api import Json, Object

REASONS_MAX = 6
MESSAGE_LENGTH_MAX = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """`missing` says in one line what is still to come; empty = the object is ready."""

    missing: str = ""
    failed: bool = False
    """It will not come by waiting."""


READY = Verdict()


def verdict(live: Object) -> Verdict:
    """Judge an object by its status."""
    judge = _JUDGES.get(str(live.get("kind")))
    return judge(live) if judge else READY


def reasons(live: Object, pods: Iterable[Object], warnings: Iterable[Object]) -> list[str]:
    """Return why the object is not ready, the most telling first: containers, then warnings."""
    pods = list(pods)
    names = {_name(live), *map(_name, pods)}
    found = [line for pod in pods for line in _pod_reasons(pod)]
    events = sorted(warnings, key=lambda event: str(event.get("lastTimestamp")), reverse=True)
    for event in events:
        involved = _part(event, "involvedObject")
        if involved.get("name") in names:
            line = f"{involved.get('name')}: {event.get('reason')}: {event.get('message')}"
            found.append(line[:MESSAGE_LENGTH_MAX])
    return list(dict.fromkeys(found))[:REASONS_MAX]


def pod_labels(live: Object) -> dict[str, str]:
    """Return the labels by which a workload finds its pods."""
    labels = _part(_part(live, "spec"), "selector").get("matchLabels")
    return {k: str(v) for k, v in labels.items()} if isinstance(labels, Mapping) else {}


def _deployment(live: Object) -> Verdict:
    status, wanted = _part(live, "status"), _count(_part(live, "spec"), "replicas", 1)
    if not _observed(live):
        return Verdict("not seen by its controller yet")
    stuck = _condition(status, "Progressing")
    if stuck.get("reason") == "ProgressDeadlineExceeded":
        return Verdict(str(stuck.get("message")), failed=True)
    updated, ready = _count(status, "updatedReplicas"), _count(status, "availableReplicas")
    if updated < wanted or ready < wanted:
        return Verdict(f"{min(updated, ready)} of {wanted} pods ready")
    old = _count(status, "replicas") - updated
    return Verdict(f"{old} of the old pods left") if old > 0 else READY


def _stateful_set(live: Object) -> Verdict:
    status, wanted = _part(live, "status"), _count(_part(live, "spec"), "replicas", 1)
    if not _observed(live):
        return Verdict("not seen by its controller yet")
    # Not those that are `available`: between two pods that it renews the controller waits until the
    # first is settled, but nobody has to wait for that who only needs it to serve.
    ready = _count(status, "readyReplicas")
    if ready < wanted:
        return Verdict(f"{ready} of {wanted} pods ready")
    if status.get("currentRevision") != status.get("updateRevision"):
        return Verdict(f"{_count(status, 'updatedReplicas')} of {wanted} pods renewed")
    return READY


def _disruption_budget(live: Object) -> Verdict:
    status = _part(live, "status")
    if not _observed(live):
        return Verdict("not seen by its controller yet")
    healthy, needed = _count(status, "currentHealthy"), _count(status, "desiredHealthy")
    return READY if healthy >= needed else Verdict(f"{healthy} of {needed} pods healthy")


def _namespace(live: Object) -> Verdict:
    phase = _part(live, "status").get("phase")
    return READY if phase == "Active" else Verdict(f"its phase is {phase}")


_JUDGES: dict[str, Callable[[Object], Verdict]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "PodDisruptionBudget": _disruption_budget,
    "Namespace": _namespace,
}


def _pod_reasons(pod: Object) -> Iterable[str]:
    status = _part(pod, "status")
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        yield f"{_name(pod)}: {scheduled.get('reason')}: {scheduled.get('message')}"
    for list_name in ("initContainerStatuses", "containerStatuses"):
        for container in _parts(status, list_name):
            waiting = _part(_part(container, "state"), "waiting")
            ended = _part(_part(container, "lastState"), "terminated") or _part(
                _part(container, "state"), "terminated"
            )
            said = [f"{waiting.get('reason')}: {waiting.get('message') or ''}"] if waiting else []
            if ended and ended.get("exitCode"):
                said.append(
                    f"ended with code {ended.get('exitCode')} ({ended.get('reason')}),"
                    f" {container.get('restartCount')} restarts"
                )
            if not said and not container.get("ready") and _part(container, "state").get("running"):
                said = ["runs, but its readiness probe fails"]
            if said:
                line = f"{_name(pod)}/{container.get('name')}: {'; '.join(said)}"
                yield line.rstrip(": ")[:MESSAGE_LENGTH_MAX]


def _observed(live: Object) -> bool:
    generation = _count(_part(live, "metadata"), "generation")
    return _count(_part(live, "status"), "observedGeneration") >= generation


def _condition(status: Mapping[str, Json], kind: str) -> Mapping[str, Json]:
    return next((row for row in _parts(status, "conditions") if row.get("type") == kind), {})


def _part(owner: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    value = owner.get(key)
    return value if isinstance(value, Mapping) else {}


def _parts(owner: Mapping[str, Json], key: str) -> list[Mapping[str, Json]]:
    value = owner.get(key)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _count(owner: Mapping[str, Json], key: str, default: int = 0) -> int:
    value = owner.get(key)
    return value if isinstance(value, int) else default


def _name(live: Object) -> str:
    return str(_part(live, "metadata").get("name"))
