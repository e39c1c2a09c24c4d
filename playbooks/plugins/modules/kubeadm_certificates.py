"""Ansible module: the certificates that kubeadm made on a node of the control plane.

They hold for a year. Renewed ones are used by what is started after it: restart the node's static
pods. The kubelet renews its own.
"""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kubernetes import DEPLOYER, CommandError, kubeadm

DOCUMENTATION = """
module: kubeadm_certificates
short_description: The certificates that kubeadm made on a node of the control plane
description:
  - Looks when the certificates end, or renews them when one ends soon.
options:
  state:
    description: Only look, or renew all when one ends within O(renew_days).
    type: str
    choices: [look, renewed]
    default: look
  renew_days:
    description: How long before the end of one all are renewed.
    type: int
    default: 90
  cluster_file:
    description: What kubeadm is told about the cluster; a file on the node.
    type: path
    default: /etc/kubernetes/cluster.yaml
"""

DAY_S = 86_400


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["look", "renewed"], "default": "look"},
            "renew_days": {"type": "int", "default": 90},
            "cluster_file": {"type": "path", "default": "/etc/kubernetes/cluster.yaml"},
        },
        supports_check_mode=True,
    )
    config = f"--config={module.params['cluster_file']}"
    try:
        days = days_left(kubeadm("certs", "check-expiration", "--output=json", config))
        due = ending(days, module.params["renew_days"])
        renew = module.params["state"] == "renewed" and bool(due)
        if renew and not module.check_mode:
            kubeadm("certs", "renew", "all", config)
            # Its certificate is as old; the role makes it anew.
            DEPLOYER.unlink(missing_ok=True)
            days = days_left(kubeadm("certs", "check-expiration", "--output=json", config))
    except (CommandError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=renew, days_left=days, due=due)


def days_left(text: str) -> dict[str, int]:
    """Name → whole days until the certificate ends, of those that this node has."""
    found: dict[str, Any] = json.loads(text)
    rows = [*found["certificates"], *found["certificateAuthorities"]]
    return {row["name"]: row["residualTime"] // DAY_S for row in rows if not row["missing"]}


def ending(days: dict[str, int], within: int) -> list[str]:
    """The certificates that end within so many days. Authorities are not renewed: not they."""
    return sorted(name for name, left in days.items() if left < within and not name.endswith("ca"))


if __name__ == "__main__":
    main()
