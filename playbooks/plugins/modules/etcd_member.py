"""Ansible module: the members of the cluster's etcd, as one of them sees them.

Runs on a node of the control plane and asks the etcd beside it. A member is removed by the name of
its node; etcd itself refuses what would cost the others their quorum. Standard library only.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: etcd_member
short_description: The members of the cluster's etcd
description:
  - Looks at the members of etcd and their health, removes one, or takes a snapshot.
options:
  state:
    description:
      - C(look) returns every member with its health.
      - C(absent) removes the member O(name).
      - C(snapshot) writes what etcd holds to O(path).
    type: str
    choices: [look, absent, snapshot]
    default: look
  name:
    description: The node whose member is removed.
    type: str
    default: ""
  path:
    description: The file of the snapshot; it must not exist.
    type: path
    default: ""
"""

ENDPOINT = "https://127.0.0.1:2379"
CERTIFICATES = Path("/etc/kubernetes/pki/etcd")
TIMEOUT_S = 60


class EtcdError(Exception):
    """etcdctl failed; the message is what it said."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["look", "absent", "snapshot"],
                "default": "look",
            },
            "name": {"type": "str", "default": ""},
            "path": {"type": "path", "default": ""},
        },
        required_if=[("state", "absent", ["name"]), ("state", "snapshot", ["path"])],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "look":
            module.exit_json(changed=False, members=look())
        if params["state"] == "snapshot":
            module.exit_json(**snapshot(Path(params["path"]), check_mode=module.check_mode))
        module.exit_json(**remove(params["name"], check_mode=module.check_mode))
    except (EtcdError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"etcd: {error}")


def look() -> list[dict[str, Any]]:
    """Every member: id, name, peer address, whether it learns still, and whether it is healthy."""
    members = parsed_members(etcdctl("member", "list", "--write-out=json"))
    endpoints = ",".join(member["client"] for member in members if member["client"])
    # It ends with an error when any member is not healthy, and says of each how it is all the same.
    said = etcdctl("endpoint", "health", "--write-out=json", endpoints=endpoints, check=False)
    return [{**member, "healthy": member["client"] in healthy(said)} for member in members]


def remove(name: str, *, check_mode: bool) -> dict[str, Any]:
    members = parsed_members(etcdctl("member", "list", "--write-out=json"))
    gone = [member for member in members if member["name"] == name]
    for member in gone if not check_mode else []:
        etcdctl("member", "remove", member["id"])
    return {
        "changed": bool(gone),
        "removed": [member["id"] for member in gone],
        "diff": {"before": "".join(f"{member['name']}\n" for member in gone), "after": ""},
    }


def snapshot(path: Path, *, check_mode: bool) -> dict[str, Any]:
    if path.exists():
        raise EtcdError(f"{path} exists already")
    if not check_mode:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        etcdctl("snapshot", "save", str(path))
        path.chmod(0o600)
    return {"changed": True, "path": str(path)}


def parsed_members(text: str) -> list[dict[str, Any]]:
    """The answer of `etcdctl member list`. A member that has not started yet has no name."""
    return [
        {
            "id": f"{member['ID']:x}",
            "name": member.get("name", ""),
            "peer": next(iter(member.get("peerURLs", [])), ""),
            "client": next(iter(member.get("clientURLs", [])), ""),
            "learner": member.get("isLearner", False),
        }
        for member in json.loads(text)["members"]
    ]


def healthy(text: str) -> set[str]:
    """The endpoints that `etcdctl endpoint health` found well; none where it printed no JSON."""
    lines = [line for line in text.splitlines() if line.startswith("[")]
    found = json.loads(lines[0]) if lines else []
    return {entry["endpoint"] for entry in found if entry["health"]}


def etcdctl(*argv: str, endpoints: str = ENDPOINT, check: bool = True) -> str:
    """What etcdctl prints, asked with the certificate of the node's own etcd."""
    command = [
        "/usr/local/bin/etcdctl",
        f"--endpoints={endpoints}",
        f"--cacert={CERTIFICATES / 'ca.crt'}",
        f"--cert={CERTIFICATES / 'server.crt'}",
        f"--key={CERTIFICATES / 'server.key'}",
        *argv,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if check and done.returncode:
        lines = done.stderr.strip().splitlines()
        raise EtcdError(lines[-1] if lines else f"etcdctl ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
