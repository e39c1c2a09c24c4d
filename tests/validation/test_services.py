"""What runs on the VMs, what listens, and that nothing else does."""

from __future__ import annotations

import http.client
import json
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest

STORE_PORT, CLUSTER_PORT, SSH_PORT = 7200, 7201, 22
CONNECT_TIMEOUT_S = 3
ANY_IPV4, ANY_IPV6 = str(IPv4Address(0)), str(IPv6Address(0))


def health(address: str, what: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(address, STORE_PORT, timeout=15)
    try:
        connection.request("GET", f"/_health/{what}")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def listening(shell) -> set[tuple[str, int]]:
    """Address and port of every TCP socket that listens beyond the loopback."""
    found = set()
    for line in shell.check_output("ss -Hlnt").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if not address.startswith(("127.", "[::1]")):
            found.add((address.strip("[]").partition("%")[0], int(port)))
    return found


def test_the_store_runs_and_starts_at_boot(shells, default_node):
    service = shells[default_node].service("objectstore")
    assert service.is_running
    assert service.is_enabled


def test_the_store_does_not_run_as_root(shells, default_node):
    pid = shells[default_node].check_output("systemctl show -P MainPID objectstore")
    assert shells[default_node].check_output("ps -o user= -p %s", pid) == "objectstore"


def test_the_keys_on_a_node_are_readable_by_the_store_alone(shells, default_node):
    shell = shells[default_node]
    for path in ("/etc/objectstore/cluster/key.pem", "/etc/objectstore/serve.env"):
        assert shell.file(path).mode & 0o007 == 0
        assert shell.file(path).user == "root"
    assert shell.file("/etc/objectstore/cluster").mode & 0o007 == 0


def test_data_lies_on_the_data_node_alone(store, shells, default_node):
    is_data_node = default_node == store.hosts("default")[0]
    assert shells[default_node].file("/var/lib/objectstore/store.json").exists == is_data_node


def test_a_node_is_ready_and_runs_the_version_that_is_installed(store, shells, default_node):
    status, answer = health(store.address(default_node), "ready")
    assert (status, answer["status"]) == (200, "ready"), answer
    link = shells[default_node].file("/opt/objectstore/current").linked_to
    assert link == f"/opt/objectstore/{answer['version']}"


def test_all_nodes_run_one_version(store):
    versions = {
        health(store.address(node), "live")[1]["version"] for node in store.hosts("default")
    }
    assert len(versions) == 1


def test_envoy_runs_and_owns_its_addresses_from_boot_on(shells, envoy_node):
    for name in ("envoy", "objectstore-client-addresses"):
        assert shells[envoy_node].service(name).is_running
        assert shells[envoy_node].service(name).is_enabled


def test_the_envoys_own_every_client_address(store, shells):
    owned = set()
    for node in store.hosts("envoy"):
        owned.update(shells[node].check_output("ip -4 -oneline address show").split())
    for address in store.client_addresses:
        assert f"{address}/32" in owned


def test_envoy_finds_every_node_healthy(store, shells, envoy_node):
    script = (
        "import http.client,socket;"
        "c=http.client.HTTPConnection('e');c.sock=socket.socket(socket.AF_UNIX);"
        "c.sock.connect('/run/envoy/admin.sock');c.request('GET','/clusters?format=json');"
        "print(c.getresponse().read().decode())"
    )
    clusters = json.loads(shells[envoy_node].check_output("python3 -c %s", script))
    seen = {
        host["address"]["socket_address"]["address"]: host["health_status"]
        for cluster in clusters["cluster_statuses"]
        for host in cluster["host_statuses"]
    }
    healthy = {"eds_health_status": "HEALTHY"}
    assert seen == {store.address(node): healthy for node in store.hosts("default")}


def test_only_the_store_listens_on_a_default_node(store, shells, default_node):
    expected = {(ANY_IPV4, STORE_PORT), (ANY_IPV4, SSH_PORT), (ANY_IPV6, SSH_PORT)}
    if default_node == store.hosts("default")[0]:
        expected.add((store.address(default_node), CLUSTER_PORT))
    assert listening(shells[default_node]) == expected


def test_only_the_client_addresses_listen_on_an_envoy(store, shells, envoy_node):
    expected = {(address, STORE_PORT) for address in store.client_addresses}
    assert listening(shells[envoy_node]) == expected | {(ANY_IPV4, SSH_PORT), (ANY_IPV6, SSH_PORT)}


def test_the_cluster_port_takes_nobody_without_a_certificate(store):
    data_node = store.address(store.hosts("default")[0])
    with socket.create_connection((data_node, CLUSTER_PORT), CONNECT_TIMEOUT_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        try:
            assert b"HTTP" not in plain.recv(100)
        except ConnectionError:
            return


@pytest.mark.parametrize("port", [80, 443, 7201, 8080, 9901])
def test_a_client_address_answers_on_no_other_port(store, port: int):
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((store.client_addresses[0], port), CONNECT_TIMEOUT_S)


def test_the_log_is_bounded(shells, node):
    settings = shells[node].file("/etc/systemd/journald.conf.d/objectstore.conf")
    assert "SystemMaxUse=" in settings.content_string


def test_no_unit_has_failed(shells, node):
    assert shells[node].check_output("systemctl --failed --no-legend") == ""
