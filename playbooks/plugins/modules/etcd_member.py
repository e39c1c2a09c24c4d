"""Ansible module: the members of the cluster's etcd, as one of them sees them.

Runs on a node of the control plane and asks the etcd beside it. A member is removed by the name of
its node; etcd itself refuses what would cost the others their quorum. Standard library only.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kubernetes import ETCD_DATA, CommandError, run

DOCUMENTATION = """
module: etcd_member
short_description: The members of the cluster's etcd
description:
  - Looks at the members of etcd and their health, removes one, takes or restores a snapshot.
options:
  state:
    description:
      - C(look) returns every member with its health.
      - C(absent) removes the member O(name).
      - C(snapshot) writes what etcd holds to O(path).
      - >-
        C(restored) gives this node's etcd, which must not run, the contents of the snapshot
        O(path); what it held goes to a folder beside it.
    type: str
    choices: [look, absent, snapshot, restored]
    default: look
  name:
    description: The node whose member is removed, or this node.
    type: str
    default: ""
  path:
    description: The file of the snapshot; a new one must not exist.
    type: path
    default: ""
  members:
    description: Name → address of every node that O(state=restored) is run on.
    type: dict
    default: {}
  token:
    description: What keeps members of before the restoring apart from those after it.
    type: str
    default: ""
"""

ENDPOINT = "https://127.0.0.1:2379"
CERTIFICATES = Path("/etc/kubernetes/pki/etcd")
TIMEOUT_S = 60
RESTORED = ETCD_DATA.with_name("etcd.restored")
BEFORE = ETCD_DATA.with_name("etcd.before-restore")
# Who watched Kubernetes' objects must not take revisions of after the snapshot for known ones.
REVISIONS_SKIPPED = 1_000_000_000


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["look", "absent", "snapshot", "restored"],
                "default": "look",
            },
            "name": {"type": "str", "default": ""},
            "path": {"type": "path", "default": ""},
            "members": {"type": "dict", "default": {}},
            "token": {"type": "str", "default": ""},
        },
        required_if=[
            ("state", "absent", ["name"]),
            ("state", "snapshot", ["path"]),
            ("state", "restored", ["name", "path", "members", "token"]),
        ],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "look":
            module.exit_json(changed=False, members=look())
        if params["state"] == "snapshot":
            module.exit_json(**snapshot(Path(params["path"]), check_mode=module.check_mode))
        if params["state"] == "restored":
            module.exit_json(**restore(params, check_mode=module.check_mode))
        module.exit_json(**remove(params["name"], check_mode=module.check_mode))
    except (CommandError, OSError) as error:
        module.fail_json(msg=str(error))


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
        raise CommandError(f"{path} exists already")
    if not check_mode:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        etcdctl("snapshot", "save", str(path))
        path.chmod(0o600)
    return {"changed": True, "path": str(path)}


def restore(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    if not check_mode:
        shutil.rmtree(RESTORED, ignore_errors=True)
        run(*restore_command(params), timeout_s=TIMEOUT_S)
        shutil.rmtree(BEFORE, ignore_errors=True)
        if ETCD_DATA.exists():
            ETCD_DATA.rename(BEFORE)
        RESTORED.rename(ETCD_DATA)
        ETCD_DATA.chmod(0o700)
    return {"changed": True, "kept": str(BEFORE)}


def restore_command(params: dict[str, Any]) -> list[str]:
    """What makes the data of one member; all members of the new cluster are named in it."""
    peers = {name: f"https://{address}:2380" for name, address in params["members"].items()}
    return [
        "/usr/local/bin/etcdutl",
        "snapshot",
        "restore",
        params["path"],
        f"--name={params['name']}",
        f"--initial-cluster={','.join(f'{name}={peer}' for name, peer in peers.items())}",
        f"--initial-cluster-token={params['token']}",
        f"--initial-advertise-peer-urls={peers[params['name']]}",
        f"--bump-revision={REVISIONS_SKIPPED}",
        "--mark-compacted",
        f"--data-dir={RESTORED}",
    ]


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
        *argv,
        f"--endpoints={endpoints}",
        f"--cacert={CERTIFICATES / 'ca.crt'}",
        f"--cert={CERTIFICATES / 'server.crt'}",
        f"--key={CERTIFICATES / 'server.key'}",
    ]
    return run(*command, timeout_s=TIMEOUT_S, check=check)


if __name__ == "__main__":
    main()
