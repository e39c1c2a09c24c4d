"""Ansible module: a node's part in the Kubernetes cluster, by kubeadm.

A node is a member when a marker says that its beginning or joining came to its end; anything else
that kubeadm left behind is from a run that was interrupted, and is undone before the next attempt.
The marker also says of which settings, the version among them, the node was made or upgraded last:
what the cluster's file says now is due where it differs.
What joins needs an invitation, made on a member: a token and a key that hold for minutes, so no
secret that lets nodes in outlives a run. Standard library only, since it runs with the node's own
Python.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils import control_plane
from ansible.module_utils.alone import alone
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kubernetes import (
    ADMIN,
    DEPLOYER,
    ETC,
    ETCD_DATA,
    KUBEADM_TIMEOUT_S,
    KUBECTL_TIMEOUT_S,
    MANIFESTS,
    CommandError,
    kubeadm,
    kubectl,
    run,
    until,
)

DOCUMENTATION = """
module: kubeadm_node
short_description: A node's part in the Kubernetes cluster
description:
  - Begins a cluster, lets nodes join and leave, and waits until all are ready.
options:
  state:
    description:
      - C(look) returns what the node is; C(begun), C(joined) and C(left) make it so.
      - C(invited) runs on a member and returns what another node joins with.
      - C(drained) and C(uncordoned) run on a member and move a node's pods, or let it have some.
      - C(forgotten) runs on a member and removes the object of a node that is gone.
      - >-
        C(planned) runs on the first member and lets the kubeadm that is installed there judge
        whether the cluster can be upgraded to O(version).
      - >-
        C(resumed) clears what an upgrade that was cut off left on this node: it gets its control
        plane back, and may have pods again.
      - >-
        C(upgraded) brings this node to O(version) and to what O(cluster_file) says, and restarts
        its kubelet. The first node, where O(leads), does so for the cluster, too.
      - C(ready) runs on a member and waits for nodes and the cluster's own workloads.
      - C(access) runs on a member and returns the ways in from outside.
    type: str
    choices:
      - look
      - begun
      - joined
      - left
      - invited
      - drained
      - uncordoned
      - forgotten
      - planned
      - resumed
      - upgraded
      - ready
      - access
    default: look
  name:
    description: Name of the node.
    type: str
    default: ""
  node:
    description: What kubeadm is told about this node, as YAML.
    type: str
    default: ""
  cluster_file:
    description: What kubeadm is told about the cluster; a file on the node.
    type: path
    default: /etc/kubernetes/cluster.yaml
  control_plane:
    description: Whether the invited node carries the control plane.
    type: bool
    default: true
  version:
    description: The version that the node is upgraded to, as C(v1.34.4).
    type: str
    default: ""
  etcd_image:
    description: The image of etcd that goes with O(version); one that runs already stays untouched.
    type: str
    default: ""
  leads:
    description: Whether this node upgrades what the whole cluster shares.
    type: bool
    default: false
  timeout_s:
    description: How long O(state=ready), O(state=drained) and the end of O(state=upgraded) wait.
    type: int
    default: 180
"""

MARKER = ETC / "member.json"
NEEDED = (Path("/usr/bin/containerd"), Path("/usr/sbin/conntrack"), Path("/usr/sbin/nft"))
KUBELET = Path("/usr/local/bin/kubelet")
KUBELET_KEYS = Path("/var/lib/kubelet/pki")
KUBELET_SETTINGS = (
    Path("/var/lib/kubelet/config.yaml"),
    Path("/var/lib/kubelet/kubeadm-flags.env"),
)
PATCHES = ETC / "patches"
LEFT_BEHIND = (ETC / "kubelet.conf", MANIFESTS / "etcd.yaml", ETCD_DATA / "member")
INVITATION_HOLDS = "15m"
# Images come with the bundle; certificates have a playbook of their own; CoreDNS is no Deployment,
# which is where kubeadm looks for what it would have to bring to a newer one.
UPGRADE = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: UpgradeConfiguration
plan:
  kubernetesVersion: {version}
  ignorePreflightErrors: [CoreDNSUnsupportedPlugins, CoreDNSMigration]
apply:
  kubernetesVersion: {version}
  imagePullPolicy: Never
  certificateRenewal: false
  etcdUpgrade: {etcd}
  patches: {{directory: {patches}}}
  skipPhases: [addon/coredns]
  ignorePreflightErrors: [CoreDNSUnsupportedPlugins, CoreDNSMigration]
node:
  imagePullPolicy: Never
  certificateRenewal: false
  etcdUpgrade: {etcd}
  patches: {{directory: {patches}}}
  skipPhases: [addon/coredns]
"""
ADVERTISED = r"kube-apiserver\.advertise-address\.endpoint: (\S+):6443\n"
DNS_PRINTED = "--print-manifest"
DNS_ANNOTATION = "objectstore.internal/manifest"
# What is ours of kubeadm's CoreDNS, of which each text has one place.
DNS_CHANGES = {
    "kind: Deployment\nmetadata:\n": (
        f"kind: DaemonSet\nmetadata:\n  annotations:\n    {DNS_ANNOTATION}: '{{mark}}'\n"
    ),
    "  replicas: 2\n": "",
    "  strategy:\n": "  updateStrategy:\n",
    '  resourceVersion: "0"\n': "",
    "  clusterIP:": "  internalTrafficPolicy: Local\n  clusterIP:",
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": sorted(STATES), "default": "look"},
            "name": {"type": "str", "default": ""},
            "node": {"type": "str", "default": "", "no_log": True},
            "cluster_file": {"type": "path", "default": str(ETC / "cluster.yaml")},
            "control_plane": {"type": "bool", "default": True},
            "version": {"type": "str", "default": ""},
            "etcd_image": {"type": "str", "default": ""},
            "leads": {"type": "bool", "default": False},
            "timeout_s": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    state, params = module.params["state"], module.params
    try:
        # Of a run that was cut off, the last step may still be at work.
        with nullcontext() if state == "look" else alone("kubeadm", KUBEADM_TIMEOUT_S):
            result = STATES[state](params, module.check_mode)
        module.exit_json(**result)
    except (CommandError, OSError) as error:
        module.fail_json(msg=str(error))


def look(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    marker = json.loads(MARKER.read_text()) if MARKER.exists() else {}
    shown = run("ip", "-json", "-4", "address", "show", timeout_s=KUBECTL_TIMEOUT_S)
    seen = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "changed": False,
        "member": bool(marker),
        "name": marker.get("name", ""),
        "version": installed_version(),
        "due": bool(marker) and marker.get("settings") != settings_of(params["cluster_file"]),
        "addresses": [
            info["local"] for link in json.loads(shown) for info in link.get("addr_info", [])
        ],
        "memory_seen_mib": int(seen.group(1)) >> 10 if seen else 0,
        "lacking": [str(path) for path in NEEDED if not path.exists()],
    }


def begun(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """A cluster of this node alone. CoreDNS comes in a shape of our own (`name_service`)."""
    if MARKER.exists():
        return {"changed": False}
    if not check_mode:
        cleared()
        text = f"{params['node']}\n---\n{Path(params['cluster_file']).read_text()}"
        told(text, "init", "--skip-phases=addon/coredns,show-join-command")
        marked(params["name"], params["cluster_file"])
    return {"changed": True}


def joined(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    if MARKER.exists():
        return {"changed": False}
    if not check_mode:
        cleared()
        told(params["node"], "join")
        marked(params["name"], params["cluster_file"])
    return {"changed": True}


def left(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Nothing of the cluster is left on this node; as a member of etcd it takes its leave, too."""
    present = MARKER.exists() or any(path.exists() for path in LEFT_BEHIND)
    if present and not check_mode:
        cleared()
    return {"changed": present}


def invited(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """What `name` joins with; what the cluster still knows of an earlier node so called goes."""
    if check_mode:
        return {"changed": True, "token": "", "authority_hash": "", "certificate_key": ""}
    forgotten(params, check_mode)
    said = kubeadm("token", "create", f"--ttl={INVITATION_HOLDS}", "--print-join-command")
    token = re.search(r"--token (\S+)", said)
    authority = re.search(r"(sha256:[0-9a-f]{64})", said)
    if not token or not authority:
        raise CommandError("kubeadm made a token, but printed no command to join with")
    key = certificates_offered(params["cluster_file"]) if params["control_plane"] else ""
    return {
        "changed": True,
        "token": token.group(1),
        "authority_hash": authority.group(1),
        "certificate_key": key,
    }


def certificates_offered(cluster_file: str) -> str:
    """The key of the copies of the authorities that a new control plane fetches."""
    key = secrets.token_hex(32)
    text = described(cluster_file, f"certificateKey: {key}\n")
    told(text, "init", "phase", "upload-certs", "--upload-certs", "--skip-certificate-key-print")
    return key


def described(cluster_file: str, more: str = "") -> str:
    """The cluster as its file says, for a phase of kubeadm's that changes it."""
    return (
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n"
        f"{more}patches: {{directory: {PATCHES}}}\n"
        "nodeRegistration: {criSocket: 'unix:///run/containerd/containerd.sock'}\n"
        f"---\n{Path(cluster_file).read_text()}"
    )


def drained(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """No pods but those of the system are on the node, and none comes; budgets are respected."""
    if not is_known(params["name"]):
        return {"changed": False}
    if not check_mode:
        kubectl(
            "drain",
            params["name"],
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            f"--timeout={params['timeout_s']}s",
            timeout_s=params["timeout_s"] + KUBECTL_TIMEOUT_S,
        )
    return {"changed": True}


def uncordoned(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    name = params["name"]
    closed = kubectl("get", "node", name, "--output=jsonpath={.spec.unschedulable}") == "true"
    if closed and not check_mode:
        kubectl("uncordon", name)
    return {"changed": closed}


def is_known(name: str) -> bool:
    return bool(kubectl("get", "node", name, "--ignore-not-found", "--output=name").strip())


def forgotten(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    known = is_known(params["name"])
    if known and not check_mode:
        kubectl("delete", "node", params["name"], "--wait=false")
    return {"changed": known}


def planned(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Nothing is changed: kubeadm looks whether nodes are well and the versions go together."""
    told(upgrade_told(params["version"], etcd=True), "upgrade", "plan")
    return {"changed": False}


def resumed(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    back = [] if check_mode else control_plane.put_back()
    if back:
        until(control_plane.not_answering, params["timeout_s"])
    return {"changed": uncordoned(params, check_mode)["changed"] or bool(back)}


def upgraded(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Control plane, settings and kubelet of this node; a run that was cut off is repeated. Where
    etcd changes too, all of the control plane is left to kubeadm, in its order.
    """
    marker = json.loads(MARKER.read_text()) if MARKER.exists() else {}
    if not marker:
        raise CommandError(f"{params['name']} is no member of the cluster")
    due = marker.get("settings") != settings_of(params["cluster_file"])
    if due and not check_mode:
        control_plane.put_back()
        etcd = not runs_etcd(params["etcd_image"])
        if params["leads"]:
            told(described(params["cluster_file"]), "init", "phase", "upload-config", "all")
        if not etcd:
            renewed_at_once(params)
        before = kubelet_settings()
        how = ("apply", "--yes") if params["leads"] else ("node",)
        told(upgrade_told(params["version"], etcd=etcd), "upgrade", *how)
        if etcd or kubelet_settings() != before:
            kubelet_restarted(params)
        marked(params["name"], params["cluster_file"])
    return {"changed": due}


def renewed_at_once(params: dict[str, Any]) -> None:
    """API server, controllers and scheduler by what the cluster's file says, and the kubelet, which
    takes its time to look for an API server that was away.
    """
    address = re.search(ADVERTISED, (MANIFESTS / "kube-apiserver.yaml").read_text())
    if not address:
        raise CommandError("the manifest of the API server does not say where it answers")
    here = f"localAPIEndpoint: {{advertiseAddress: {address.group(1)}, bindPort: 6443}}\n"
    text = described(params["cluster_file"], here)
    control_plane.replaced(
        lambda: told(text, "init", "phase", "control-plane", "all"), params["timeout_s"]
    )
    kubelet_restarted(params)


def kubelet_restarted(params: dict[str, Any]) -> None:
    """Return when it and what it runs of the control plane are of the version and ready."""
    run("systemctl", "restart", "kubelet.service", timeout_s=KUBECTL_TIMEOUT_S)
    until(lambda: not_upgraded(params["name"], params["version"]), params["timeout_s"])


def kubelet_settings() -> list[bytes]:
    return [path.read_bytes() for path in KUBELET_SETTINGS if path.exists()]


def upgrade_told(version: str, *, etcd: bool) -> str:
    """What kubeadm is told of an upgrade."""
    return UPGRADE.format(version=version, etcd=str(etcd).lower(), patches=PATCHES)


def runs_etcd(image: str) -> bool:
    """Whether the node's etcd is of that image: kubeadm would restart it all the same."""
    manifest = MANIFESTS / "etcd.yaml"
    return manifest.exists() and f"image: {image}\n" in manifest.read_text()


def not_upgraded(name: str, version: str) -> str:
    """What of a node is not of the version yet or not ready; while the API is away, why."""
    try:
        node = json.loads(kubectl("get", "node", name, "--output=json"))
        selector = f"--field-selector=spec.nodeName={name}"
        static = ("--selector=tier=control-plane", selector, "--output=json")
        pods = json.loads(kubectl("-n", "kube-system", "get", "pods", *static))["items"]
    except CommandError as error:
        return str(error)
    kubelet = node["status"]["nodeInfo"]["kubeletVersion"]
    lacking = [] if kubelet == version else [f"kubelet is {kubelet}"]
    lacking += [item for item, well in [(name, is_ready(node))] if not well]
    for pod in pods:
        image = pod["spec"]["containers"][0]["image"]
        component = pod["metadata"]["labels"]["component"]
        if component.startswith("kube-") and not image.endswith(f":{version}"):
            lacking.append(f"{component} is {image}")
        elif not is_ready(pod):
            lacking.append(component)
    return f"{name} is not upgraded yet: {', '.join(lacking)}" if lacking else ""


def is_ready(item: dict[str, Any]) -> bool:
    conditions = item["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def ready(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Every node is ready, cluster DNS and the proxies run."""
    deadline = time.monotonic() + params["timeout_s"]
    mark, manifest = name_service(params["cluster_file"])
    found = in_system("get", "daemonset", "coredns", "--ignore-not-found", "--output=json")
    known = json.loads(found)["metadata"].get("annotations", {}) if found else {}
    due = known.get(DNS_ANNOTATION) != mark
    if not check_mode:
        if due:
            with private_file(manifest) as path:
                in_system("apply", "--server-side", "--force-conflicts", f"--filename={path}")
        waited(deadline, "wait", "--for=condition=Ready", "node", "--all")
        for workload in ("daemonset/kube-proxy", "daemonset/coredns"):
            waited(deadline, "-n", "kube-system", "rollout", "status", workload)
        if due:
            in_system("delete", "deployment", "coredns", "--ignore-not-found")
    return {"changed": due}


def in_system(*argv: str) -> str:
    return kubectl("-n", "kube-system", *argv).strip()


def name_service(cluster_file: str) -> tuple[str, str]:
    """CoreDNS as kubeadm declares it, but on every node and for that node's pods alone: nobody asks
    one that died with another node. Returns a mark of the whole, and the manifests.
    """
    text = told(Path(cluster_file).read_text(), "init", "phase", "addon", "coredns", DNS_PRINTED)
    for theirs, ours in DNS_CHANGES.items():
        if text.count(theirs) != 1:
            raise CommandError(f"kubeadm declares CoreDNS in another way: {theirs.strip()!r}")
        text = text.replace(theirs, ours)
    mark = hashlib.sha256(text.encode()).hexdigest()[:16]
    return mark, text.replace("{mark}", mark)


def access(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The administrator's kubeconfig, and one for who deploys the workloads."""
    made = not (DEPLOYER.exists() and DEPLOYER.read_text())
    if made and not check_mode:
        text = kubeadm(
            "kubeconfig",
            "user",
            "--client-name=deployer",
            "--org=objectstore:deployers",
            f"--config={params['cluster_file']}",
        )
        incoming = DEPLOYER.with_name(f".{DEPLOYER.name}")
        incoming.touch(mode=0o600)
        incoming.write_text(text)
        incoming.rename(DEPLOYER)
    return {
        "changed": made,
        "kubeconfig": ADMIN.read_text(),
        "kubeconfig_deployer": DEPLOYER.read_text() if DEPLOYER.exists() else "",
    }


STATES = {
    "look": look,
    "begun": begun,
    "joined": joined,
    "left": left,
    "invited": invited,
    "drained": drained,
    "uncordoned": uncordoned,
    "forgotten": forgotten,
    "planned": planned,
    "resumed": resumed,
    "upgraded": upgraded,
    "ready": ready,
    "access": access,
}


def cleared() -> None:
    """Undo what kubeadm did on this node, as far as it came; nothing where it did nothing."""
    if not MARKER.exists() and not any(path.exists() for path in LEFT_BEHIND):
        return
    MARKER.unlink(missing_ok=True)
    kubeadm("reset", "--force", "--cri-socket=unix:///run/containerd/containerd.sock")
    DEPLOYER.unlink(missing_ok=True)
    for folder in (ETCD_DATA, KUBELET_KEYS, ETC / "pki"):
        shutil.rmtree(folder, ignore_errors=True)


def marked(name: str, cluster_file: str) -> None:
    MARKER.write_text(json.dumps({"name": name, "settings": settings_of(cluster_file)}) + "\n")


def settings_of(cluster_file: str) -> str:
    """The hash of what the cluster's file and the patches say; empty without the file."""
    path = Path(cluster_file)
    if not path.exists():
        return ""
    patches = sorted(PATCHES.glob("*")) if PATCHES.exists() else []
    return hashlib.sha256(b"".join(one.read_bytes() for one in (path, *patches))).hexdigest()


def installed_version() -> str:
    """What the node's kubelet is, as `v1.34.4`; empty where there is none yet."""
    if not KUBELET.exists():
        return ""
    return run(str(KUBELET), "--version", timeout_s=KUBECTL_TIMEOUT_S).split()[-1]


def waited(deadline: float, *argv: str) -> None:
    """Run a kubectl command that waits, until the deadline."""
    rest_s = max(1, int(deadline - time.monotonic()))
    kubectl(*argv, f"--timeout={rest_s}s", timeout_s=rest_s + KUBECTL_TIMEOUT_S)


def told(text: str, *argv: str) -> str:
    """Run kubeadm with a configuration."""
    with private_file(text) as path:
        return kubeadm(*argv, f"--config={path}")


@contextmanager
def private_file(text: str) -> Iterator[Path]:
    """A file that only root reads and that is gone afterwards."""
    path = Path("/run/objectstore-kubeadm.yaml")
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    try:
        path.write_text(text)
        yield path
    finally:
        path.unlink()


if __name__ == "__main__":
    main()
