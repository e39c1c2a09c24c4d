"""Who should have which shard: a pure function of what the pods have told.

Owners stay where they are unless a pod is gone, leaves, or has two shards more than another that is
ready. So a pod that comes back gets its share again, and nothing moves to and fro.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .coordination import Plan, PodRecord, Seen


def balance(seen: Seen, service: str, shards: Sequence[str]) -> dict[str, Plan]:
    """The plans for the shards of a service; as they are while no pod can have any."""
    pods = {
        name: record
        for name, record in sorted(seen.pods.items())
        if record.service == service and not record.leaving
    }
    if not pods:
        return {shard: seen.plans.get(shard, Plan()) for shard in shards}
    owners = _owners(seen, pods, shards)
    _even_out(owners, pods)
    return _with_standbys(owners, pods, seen)


def leads(seen: Seen, service: str, pod: str) -> bool:
    """Whether this pod is the one that writes the plans: who registered first of those that stay.
    Two that believe so for a moment write the same.
    """
    staying = [
        record for record in seen.pods.values() if record.service == service and not record.leaving
    ]
    return bool(staying) and min(staying, key=lambda record: record.since).pod == pod


def successors(seen: Seen, service: str, shard: str) -> list[str]:
    """The pods that may take a shard nobody has a claim on, the first of them first."""
    plan = seen.plans.get(shard, Plan())
    ready = [
        record.pod
        for _, record in sorted(seen.pods.items())
        if record.service == service and not record.leaving and shard in record.ready
    ]
    return sorted(ready, key=lambda pod: (pod != plan.owner, pod != plan.standby))


def _owners(seen: Seen, pods: Mapping[str, PodRecord], shards: Sequence[str]) -> dict[str, str]:
    owners: dict[str, str] = {}
    homeless = []
    for shard in shards:
        plan, claim = seen.plans.get(shard, Plan()), seen.claims.get(shard)
        known = (plan.owner, claim.pod if claim else "", plan.standby)
        owner = next((pod for pod in known if pod in pods), "")
        if owner:
            owners[shard] = owner
        else:
            homeless.append(shard)
    for shard in homeless:
        owners[shard] = min(
            pods, key=lambda pod: (shard not in pods[pod].ready, _load(owners, pod), pod)
        )
    return {shard: owners[shard] for shard in shards}


def _even_out(owners: dict[str, str], pods: Mapping[str, PodRecord]) -> None:
    while True:
        moves = [
            (shard, pod)
            for shard, owner in owners.items()
            for pod, record in pods.items()
            if shard in record.ready and _load(owners, owner) - _load(owners, pod) >= 2
        ]
        if not moves:
            return
        shard, pod = min(moves, key=lambda move: (_load(owners, move[1]), move))
        owners[shard] = pod


def _with_standbys(
    owners: Mapping[str, str], pods: Mapping[str, PodRecord], seen: Seen
) -> dict[str, Plan]:
    """Whose owner dies spreads its shards over the others: a pod follows as few as possible."""
    plans: dict[str, Plan] = {}
    following = dict.fromkeys(pods, 0)
    for shard, owner in owners.items():
        others = [pod for pod in pods if pod != owner]
        kept = seen.plans.get(shard, Plan()).standby
        least = min((following[pod] + _load(owners, pod) for pod in others), default=0)
        standby = min(
            others,
            key=lambda pod: (following[pod] + _load(owners, pod) > least, pod != kept, pod),
            default="",
        )
        if standby:
            following[standby] += 1
        plans[shard] = Plan(owner=owner, standby=standby)
    return plans


def _load(owners: Mapping[str, str], pod: str) -> int:
    return sum(owner == pod for owner in owners.values())
