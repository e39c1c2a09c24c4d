"""Ansible module: the pools of a store, replicated or erasure-coded, as they are asked for.

A pool's kind and its erasure code cannot be changed once it exists; asking for that is refused.
"""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ceph_admin import Admin, CephError

DOCUMENTATION = """
module: ceph_pool
short_description: The pools of a store
description:
  - Makes pools and sets their sizes. Waits until their placement groups are active and clean.
options:
  pools:
    description:
      - For each pool C(name), C(pg_num) and C(min_size), and either C(size) of a replicated one
        or C(k) and C(m) of an erasure-coded one, whose pieces lie on different hosts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The pool's name.
        type: str
        required: true
      pg_num:
        description: How many placement groups it has; may grow.
        type: int
        required: true
      min_size:
        description: With how many replicas or pieces it is read and written.
        type: int
        required: true
      size:
        description: How many replicas it keeps.
        type: int
      k:
        description: How many pieces an object is cut into.
        type: int
      m:
        description: How many pieces may be lost.
        type: int
  application:
    description: What the pools are for, as Ceph notes it.
    type: str
    default: objectstore
  timeout_s:
    description: How long the placement groups may take.
    type: int
    default: 120
"""

POOL = {
    "name": {"type": "str", "required": True},
    "pg_num": {"type": "int", "required": True},
    "min_size": {"type": "int", "required": True},
    "size": {"type": "int"},
    "k": {"type": "int"},
    "m": {"type": "int"},
}
ERASURE = 3


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "pools": {"type": "list", "elements": "dict", "required": True, "options": POOL},
            "application": {"type": "str", "default": "objectstore"},
            "timeout_s": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = {pool["name"]: described(pool, params["application"]) for pool in params["pools"]}
    try:
        with Admin() as admin:
            found = existing(admin)
            before = {name: found.get(name) for name in wanted}
            refuse_impossible(before, wanted)
            if before != wanted and not module.check_mode:
                for name, pool in wanted.items():
                    bring(admin, name, before[name], pool)
                admin.wait_clean(params["timeout_s"])
    except CephError as error:
        module.fail_json(msg=f"pools: {error}")
    module.exit_json(changed=before != wanted, diff={"before": before, "after": wanted})


def described(pool: dict[str, Any], application: str) -> dict[str, Any]:
    """What is asked for, in the words in which `existing` tells what is."""
    coded = pool["k"] is not None
    return {
        "kind": f"erasure {pool['k']}+{pool['m']}" if coded else "replicated",
        "size": pool["k"] + pool["m"] if coded else pool["size"],
        "min_size": pool["min_size"],
        "pg_num": pool["pg_num"],
        "application": application,
    }


def existing(admin: Admin) -> dict[str, dict[str, Any]]:
    found = {}
    for row in admin.ask("osd pool ls", detail="detail"):
        kind = "replicated"
        if row["type"] == ERASURE:
            profile = admin.ask("osd erasure-code-profile get", name=row["erasure_code_profile"])
            kind = f"erasure {profile['k']}+{profile['m']}"
        found[row["pool_name"]] = {
            "kind": kind,
            "size": row["size"],
            "min_size": row["min_size"],
            "pg_num": row["pg_num_target"],
            "application": " ".join(sorted(row["application_metadata"])),
        }
    return found


def refuse_impossible(before: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, pool in before.items():
        if pool is None:
            continue
        if pool["kind"] != wanted[name]["kind"]:
            raise CephError(f"{name} is {pool['kind']} and cannot become {wanted[name]['kind']}")
        if pool["pg_num"] > wanted[name]["pg_num"]:
            raise CephError(f"{name} has {pool['pg_num']} placement groups, which never get fewer")


def bring(admin: Admin, name: str, before: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
    """Make one pool what is wanted."""
    kind, _, code = wanted["kind"].partition(" ")
    if before is None:
        options = {"pool": name, "pg_num": wanted["pg_num"], "pool_type": kind}
        if code:
            k, m = code.split("+")
            profile = [f"k={k}", f"m={m}", "crush-failure-domain=host"]
            admin.ask("osd erasure-code-profile set", name=name, profile=profile)
            options["erasure_code_profile"] = name
        else:
            options["size"] = wanted["size"]
        admin.ask("osd pool create", **options)
        before = existing(admin)[name]
    for setting in ("size", "min_size", "pg_num"):
        if before[setting] != wanted[setting]:
            admin.ask("osd pool set", pool=name, var=setting, val=str(wanted[setting]))
    if before["application"] != wanted["application"]:
        admin.ask("osd pool application enable", pool=name, app=wanted["application"])


if __name__ == "__main__":
    main()
