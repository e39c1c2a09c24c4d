"""The envoys of a store in pods: what runs and listens there, where it sends to, what it may do."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address

import pytest

pytestmark = pytest.mark.promise("D7", "D9")

STORE_PORT, SSH_PORT = 7200, 22
SERVICES = ("envoy", "objectstore-endpoints", "objectstore-hung", "keepalived")
ANY_IPV4, ANY_IPV6 = str(IPv4Address(0)), str(IPv6Address(0))
CLUSTERS = """
import http.client, socket
c = http.client.HTTPConnection("envoy")
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect("/run/envoy/admin.sock")
c.request("GET", "/clusters?format=json")
print(c.getresponse().read().decode())
"""
# Asks the API for something with the token of the list of pods; prints the status.
ASK = """
import http.client, ssl, sys
folder = "/etc/objectstore-endpoints/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
context.verify_flags &= ~ssl.VERIFY_X509_STRICT
c = http.client.HTTPSConnection(sys.argv[1], 6443, context=context, timeout=15)
token = {"Authorization": "Bearer " + open(folder + "token").read()}
c.request(sys.argv[2], sys.argv[3], headers=token)
print(c.getresponse().status)
"""
SLICES = "/apis/discovery.k8s.io/v1/namespaces/objectstore/endpointslices"


@pytest.mark.parametrize("name", SERVICES)
def test_an_envoys_services_run_and_start_at_boot(shells, envoy_node, name):
    assert shells[envoy_node].service(name).is_running
    assert shells[envoy_node].service(name).is_enabled


def test_envoy_does_not_run_as_root(shells, envoy_node):
    for name in ("envoy", "objectstore-endpoints", "objectstore-hung"):
        pid = shells[envoy_node].check_output("systemctl show -P MainPID %s", name)
        assert shells[envoy_node].check_output("ps -o user= -p %s", pid) == "envoy"


def test_only_the_client_addresses_listen_on_an_envoy(store, shells, envoy_node):
    found = set()
    for line in shells[envoy_node].check_output("ss -Hlnt").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if not address.startswith(("127.", "[::1]")):
            found.add((address.strip("[]"), int(port)))
    expected = {(address, STORE_PORT) for address in store.client_addresses}
    assert found == expected | {(ANY_IPV4, SSH_PORT), (ANY_IPV6, SSH_PORT)}


def test_envoy_finds_a_pod_on_every_default_node_and_all_of_them_well(store, shells, envoy_node):
    clusters = json.loads(shells[envoy_node].check_output("python3 -c %s", CLUSTERS))
    (cluster,) = [c for c in clusters["cluster_statuses"] if c["name"] == "store"]
    hosts = cluster["host_statuses"]
    assert len(hosts) == len(store.hosts("default"))
    for host in hosts:
        flags = [key for key, value in host["health_status"].items() if value is True]
        assert flags == [], host["address"]


def test_the_token_of_an_envoy_reads_the_list_of_pods_and_nothing_else(store, shells, envoy_node):
    def status(method: str, path: str) -> str:
        return shells[envoy_node].check_output(
            "python3 -c %s %s %s %s", ASK, store.management_address, method, path
        )

    assert status("GET", SLICES) == "200"
    for method, path in (
        ("GET", "/api/v1/namespaces/objectstore/secrets"),
        ("GET", "/api/v1/namespaces/objectstore/pods"),
        ("GET", "/apis/discovery.k8s.io/v1/endpointslices"),
        ("DELETE", SLICES),
    ):
        assert status(method, path) == "403", (method, path)


def test_keys_on_an_envoy_are_readable_by_envoy_alone(shells, envoy_node):
    for path in ("/etc/objectstore-endpoints/token", "/etc/envoy/tls/key.pem"):
        file = shells[envoy_node].file(path)
        assert (file.user, file.group, file.mode & 0o037) == ("root", "envoy", 0)
