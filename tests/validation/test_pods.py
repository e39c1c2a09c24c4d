"""The store's pods: all there, spread, with few rights, reached by whom they may be."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.promise("D6", "S1", "S2", "S3", "S4", "S6", "S7")

REPLICAS = {
    "zookeeper": ("statefulset", 3),
    "metadata": ("statefulset", 3),
    "iam": ("deployment", 2),
    "atlas": ("deployment", 1),
}
APART = ("zookeeper", "metadata", "object-controller")
USER = 7200
CLIENT_PORT = 2281
# Opens a session with each server of the ensemble by itself; prints how many took it.
SESSIONS = """
from kazoo.client import KazooClient
tls = "/etc/objectstore/zookeeper/"
for number in range(3):
    client = KazooClient(
        hosts=f"zookeeper-{number}.zookeeper:2281", use_ssl=True, verify_certs=True,
        check_hostname=False, ca=tls + "ca.pem", certfile=tls + "cert.pem",
        keyfile=tls + "key.pem", timeout=10,
    )
    client.start(timeout=20)
    print(number, bool(client.exists("/")))
    client.stop()
"""
CONNECT = "import socket,sys;socket.create_connection((sys.argv[1],int(sys.argv[2])),3)"


@pytest.fixture(scope="session")
def kubectl(store, shells):
    """Asks the API as its administrator, from the first default node."""
    shell = shells[store.hosts("default")[0]]

    def ask(words: str, *values: str) -> str:
        command = f"kubectl --kubeconfig /etc/kubernetes/admin.conf -n objectstore {words}"
        return shell.check_output(command, *values)

    return ask


@pytest.fixture(scope="session")
def pods(kubectl):
    """All pods by the name of their workload."""
    found: dict[str, list[dict]] = {}
    for pod in json.loads(kubectl("get pods -o json"))["items"]:
        found.setdefault(pod["metadata"]["labels"]["app.kubernetes.io/name"], []).append(pod)
    return found


@pytest.mark.parametrize("name", REPLICAS)
def test_a_workload_has_all_its_pods(kubectl, name):
    kind, replicas = REPLICAS[name]
    status = json.loads(kubectl(f"get {kind} {name} -o json"))["status"]
    assert status["readyReplicas"] == replicas
    assert status["updatedReplicas"] == replicas


def test_every_default_node_has_a_front_end(store, pods):
    nodes = [pod["spec"]["nodeName"] for pod in pods["object-controller"]]
    assert sorted(nodes) == store.hosts("default")


@pytest.mark.parametrize("name", APART)
def test_pods_that_stand_in_for_each_other_are_on_different_nodes(pods, name):
    nodes = [pod["spec"]["nodeName"] for pod in pods[name]]
    assert len(set(nodes)) == len(nodes)


def test_all_services_run_the_version_of_the_store(store, pods):
    images = {
        container["image"]
        for name, group in pods.items()
        if name != "zookeeper"
        for pod in group
        for container in pod["spec"]["containers"]
    }
    assert images == {f"objectstore.internal/objectstore:{store.version.replace('+', '_')}"}


def test_no_pod_runs_as_root_or_can_write_its_root(pods):
    for group in pods.values():
        for pod in group:
            assert pod["spec"]["securityContext"]["runAsUser"] == USER
            assert pod["spec"]["automountServiceAccountToken"] is False
            for container in pod["spec"]["containers"]:
                security = container["securityContext"]
                assert security["readOnlyRootFilesystem"]
                assert security["capabilities"] == {"drop": ["ALL"]}


def test_a_pods_processes_have_no_capability(kubectl):
    script = "print(open('/proc/1/status').read())"
    status = kubectl("exec metadata-0 -- /usr/bin/python3 -c %s", script)
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert lines["Uid"].split()[0] == str(USER)
    assert int(lines["CapEff"], 16) == 0
    assert lines["NoNewPrivs"].strip() == "1"


def test_each_zookeeper_serves_who_has_a_certificate(kubectl):
    said = kubectl("exec metadata-0 -- /usr/bin/python3 -c %s", SESSIONS)
    assert said.split() == ["0", "True", "1", "True", "2", "True"]


def test_the_packet_filter_lets_in_what_the_policies_say(shells, pods, envoy_node):
    front = pods["object-controller"][0]["status"]["podIP"]
    ensemble = pods["zookeeper"][0]["status"]["podIP"]
    shell = shells[envoy_node]
    assert shell.run("python3 -c %s %s 7200", CONNECT, front).rc == 0
    assert shell.run(f"python3 -c %s %s {CLIENT_PORT}", CONNECT, ensemble).rc != 0


@pytest.mark.parametrize("account", ["metadata", "endpoints"])
def test_no_account_may_read_secrets(store, shells, account):
    shell = shells[store.hosts("default")[0]]
    user = f"system:serviceaccount:objectstore:{account}"
    asked = shell.run(
        "kubectl --kubeconfig /etc/kubernetes/admin.conf -n objectstore auth can-i get secrets "
        "--as %s",
        user,
    )
    assert asked.stdout.strip() == "no"
