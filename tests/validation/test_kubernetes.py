"""The cluster under the store: several masters, each of which will do, and nobody else let in."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.promise("D6", "D9")

API_PORT = 6443
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
TIMEOUT_S = 10
DROPPED_S = 2
DAYS_LEFT_MIN = 30


@pytest.fixture(scope="module")
def control_plane(store) -> list[str]:
    return store.hosts("default")[:3]


@pytest.fixture(scope="module")
def access(store, tmp_path_factory) -> dict[str, Any]:
    """The operator's kubeconfig: authority, and the certificate in a file with its key."""
    text = yaml.safe_load((store.folder / "kubeconfig").read_text())
    user = text["users"][0]["user"]
    pem = tmp_path_factory.mktemp("access") / "administrator.pem"
    parts = (user["client-certificate-data"], user["client-key-data"])
    pem.touch(mode=0o600)
    pem.write_bytes(b"".join(base64.b64decode(part) for part in parts))
    cluster = text["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return {"server": cluster["server"], "authority": authority, "pem": pem}


def asked(access: dict[str, Any], address: str, path: str, *, known: bool) -> tuple[int, bytes]:
    """The API's answer at one address, whose certificate must fit; as administrator or nobody."""
    context = ssl.create_default_context(cadata=access["authority"])
    if known:
        context.load_cert_chain(access["pem"])
    connection = http.client.HTTPSConnection(address, API_PORT, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def seen(shell, *words: str) -> Any:
    return json.loads(shell.check_output(f"{KUBECTL} {' '.join(words)} --output=json"))


@pytest.fixture(scope="module")
def nodes(shells, control_plane) -> dict[str, Any]:
    found = seen(shells[control_plane[0]], "get", "nodes")["items"]
    return {item["metadata"]["name"]: item for item in found}


def test_every_default_node_is_a_ready_node_and_no_other_machine_is(store, nodes):
    ready = {
        name
        for name, item in nodes.items()
        for condition in item["status"]["conditions"]
        if (condition["type"], condition["status"]) == ("Ready", "True")
    }
    assert ready == set(nodes) == set(store.hosts("default"))


def test_three_nodes_carry_the_control_plane_and_work_all_the_same(nodes, control_plane):
    role = "node-role.kubernetes.io/control-plane"
    assert {name for name, item in nodes.items() if role in item["metadata"]["labels"]} == set(
        control_plane
    )
    assert [item["spec"].get("taints") for item in nodes.values()] == [None] * len(nodes)
    assert not any(item["spec"].get("unschedulable") for item in nodes.values())


def test_the_api_answers_on_the_management_address_and_on_each_node(store, access, control_plane):
    assert access["server"] == f"https://{store.management_address}:{API_PORT}"
    for address in (store.management_address, *map(store.address, control_plane)):
        assert asked(access, address, "/readyz", known=True) == (200, b"ok"), address


def test_the_api_tells_strangers_nothing(store, access):
    for path in ("/api/v1/nodes", "/api/v1/secrets"):
        assert asked(access, store.management_address, path, known=False)[0] in (401, 403)


def test_etcd_has_three_healthy_members_and_none_that_learns(shells, control_plane):
    pki = "/etc/kubernetes/pki/etcd"
    etcdctl = f"etcdctl --cacert {pki}/ca.crt --cert {pki}/server.crt --key {pki}/server.key"
    shell = shells[control_plane[0]]
    members = json.loads(shell.check_output(f"{etcdctl} member list --write-out=json"))["members"]
    assert {member["name"] for member in members} == set(control_plane)
    assert not any(member.get("isLearner") for member in members)
    said = shell.check_output(f"{etcdctl} endpoint health --cluster --write-out=json")
    assert [entry["health"] for entry in json.loads(said)] == [True] * len(control_plane)


def test_all_parts_are_of_one_release(shells, nodes, access, store):
    said = json.loads(asked(access, store.management_address, "/version", known=True)[1])
    release = said["gitVersion"]
    for name, item in nodes.items():
        assert item["status"]["nodeInfo"]["kubeletVersion"] == release
        assert shells[name].check_output("kubelet --version") == f"Kubernetes {release}"
        assert shells[name].check_output("kubeadm version --output=short") == release


def test_the_clusters_own_pods_run_from_images_of_the_bundle(store, shells, control_plane):
    shell = shells[control_plane[0]]
    pods = seen(shell, "get", "pods", "--namespace=kube-system")["items"]
    for pod in pods:
        states = pod["status"]["containerStatuses"]
        assert all(state["ready"] for state in states), pod["metadata"]["name"]
        assert all(state["image"].startswith("objectstore.internal/") for state in states)
    dns = [pod for pod in pods if pod["metadata"]["labels"].get("k8s-app") == "kube-dns"]
    assert sorted(pod["spec"]["nodeName"] for pod in dns) == store.hosts("default")
    service = seen(shell, "get", "service", "kube-dns", "--namespace=kube-system")
    assert service["spec"]["internalTrafficPolicy"] == "Local"


def test_certificates_hold_for_a_while(shells, control_plane):
    for name in control_plane:
        said = json.loads(
            shells[name].check_output(
                "kubeadm certs check-expiration --config /etc/kubernetes/cluster.yaml"
                " --output=json 2>/dev/null"
            )
        )
        ends = {
            row["name"]: row["residualTime"] // 86_400
            for row in (*said["certificates"], *said["certificateAuthorities"])
            if not row["missing"]
        }
        assert min(ends.values()) >= DAYS_LEFT_MIN, ends


def test_keys_and_ways_in_are_the_owners_alone(store, shells, control_plane):
    for name in ("kubeconfig", "kubeconfig-deployer"):
        assert (store.folder / name).stat().st_mode & 0o077 == 0
    for node in control_plane:
        files = shells[node].check_output(
            "find /etc/kubernetes -name '*.key' -o -name '*.conf' | xargs stat -c '%a %U'"
        )
        assert set(files.splitlines()) == {"600 root"}


def test_every_vm_knows_the_way_to_the_pods_of_the_others(store, shells, node):
    found = set()
    for route in shells[node].check_output("ip route show proto 72").splitlines():
        subnet, _, gateway = route.split()[:3]
        found.add((int(subnet.split(".")[2]), gateway))
    addresses = store.infrastructure_addresses
    others = [store.address(other) for other in store.hosts("default") if other != node]
    assert found == {(addresses.index(address), address) for address in others}


def test_ports_between_nodes_are_closed_to_others(store):
    """All are tried at once: what is dropped costs a time-out."""
    nodes = map(store.address, store.hosts("default"))
    targets = list(itertools.product(nodes, (2379, 2380, 10250)))
    with ThreadPoolExecutor(len(targets)) as threads:
        outcomes = dict(zip(targets, threads.map(outcome_of_connecting, targets), strict=True))
    assert outcomes == dict.fromkeys(targets, "TimeoutError")


def outcome_of_connecting(target: tuple[str, int]) -> str:
    try:
        socket.create_connection(target, DROPPED_S).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def test_pods_are_reached_on_no_port_that_is_not_declared(shells, store, envoy_node, control_plane):
    pods = seen(shells[control_plane[0]], "get", "pods", "--namespace=kube-system")["items"]
    dns = next(pod for pod in pods if pod["metadata"]["labels"].get("k8s-app") == "kube-dns")
    attempt = (
        f"import socket;socket.create_connection(('{dns['status']['podIP']}', 9153), {DROPPED_S})"
    )
    done = shells[envoy_node].run("python3 -c %s", attempt)
    assert "TimeoutError" in done.stderr


def test_every_node_leads_to_the_clusters_services(shells, store, default_node):
    shell = shells[default_node]
    services = shell.check_output("nft list map ip kube-proxy service-ips")
    for service in (f"{store.cluster_dns} . udp . 53", f"{store.cluster_dns} . tcp . 53"):
        assert service in services
    assert " . tcp . 443 : goto service-" in services


def test_a_proxy_reads_its_own_rules_back_as_it_wrote_them(shells, store, control_plane):
    """Where protocols have no names in its image, it removes every service at a full sync."""
    shell = shells[control_plane[0]]
    said = shell.check_output(
        f"{KUBECTL} --namespace=kube-system exec daemonset/kube-proxy --"
        " nft --json list map ip kube-proxy service-ips"
    )
    table = next(row["map"] for row in json.loads(said)["nftables"] if "map" in row)
    protocols = {key["concat"][1] for key, _ in table["elem"]}
    assert protocols == {"tcp", "udp"}


def test_a_node_in_a_container_leaves_its_hosts_kernel_alone(shells, default_node):
    shell = shells[default_node]
    if shell.run("systemd-detect-virt --quiet --container").rc:
        pytest.skip("the node is a machine of its own")
    for setting in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"):
        assert shell.run("mountpoint -q %s", f"/proc/sys/{setting}").rc == 0


def test_the_kubelet_starts_at_boot(shells, default_node):
    for name in ("kubelet", "containerd", "objectstore-pod-network"):
        assert shells[default_node].service(name).is_enabled
        assert shells[default_node].service(name).is_running
