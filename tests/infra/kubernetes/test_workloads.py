"""What the workloads declare: the contract with others, least rights, and that the API takes it."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import Any

import pytest

from objectstore_infra.provider.kubernetes.objects import Objects
from objectstore_infra.workloads import access, names, traffic
from tests.infra.kubernetes.declared import MASTER_KEY, Declared, declared

WORKLOADS = ("Deployment", "StatefulSet")


@pytest.fixture(scope="module")
def everything() -> list[Declared]:
    """All objects of a small store."""
    return declared()


def of_kind(everything: list[Declared], *kinds: str) -> dict[str, dict[str, Any]]:
    return {each.name: each.object for each in everything if each.kind.name in kinds}


def pods(everything: list[Declared]) -> dict[str, dict[str, Any]]:
    found = of_kind(everything, *WORKLOADS)
    return {name: each["spec"]["template"]["spec"] for name, each in found.items()}


def test_the_workloads_are_the_prescribed_ones(everything: list[Declared]) -> None:
    found = of_kind(everything, *WORKLOADS)
    assert {name: (each["kind"], each["spec"]["replicas"]) for name, each in found.items()} == {
        "zookeeper": ("StatefulSet", 3),
        "metadata": ("StatefulSet", 3),
        "iam": ("Deployment", 2),
        "object-controller": ("Deployment", 3),
        "atlas": ("Deployment", 1),
    }
    services = of_kind(everything, "Service")
    assert set(services) == {"zookeeper", "metadata", "object-controller"}
    assert services["object-controller"]["spec"]["ports"][0]["port"] == 7200


def test_more_nodes_have_more_front_ends_and_zookeeper_stays_where_nobody_leaves() -> None:
    more = declared(workers=4)
    assert of_kind(more, "Deployment")["object-controller"]["spec"]["replicas"] == 4
    volumes = of_kind(more, "PersistentVolume")
    assert sorted(volumes) == [f"zookeeper-abc-default-{number}" for number in range(3)]


def test_every_pod_has_next_to_no_rights(everything: list[Declared]) -> None:
    for name, pod in pods(everything).items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] == 7200
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] == name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["imagePullPolicy"] == "Never"
            assert container["resources"]["limits"]["memory"]
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_every_pod_gives_a_silent_node_up_after_seconds(everything: list[Declared]) -> None:
    for pod in pods(everything).values():
        assert {each["key"]: each["tolerationSeconds"] for each in pod["tolerations"]} == {
            "node.kubernetes.io/not-ready": 5,
            "node.kubernetes.io/unreachable": 5,
        }


def test_who_hangs_is_not_given_the_time_to_end_in_good_order(everything: list[Declared]) -> None:
    asked = [
        (container["livenessProbe"], pod["terminationGracePeriodSeconds"])
        for pod in pods(everything).values()
        for container in pod["containers"]
        if "httpGet" in container["livenessProbe"]
    ]
    assert len(asked) == 4
    for probe, grace_s in asked:
        assert probe["terminationGracePeriodSeconds"] <= 5 < grace_s


def test_no_pod_waits_long_for_a_name_server_that_died(everything: list[Declared]) -> None:
    for pod in pods(everything).values():
        options = {each["name"]: int(each["value"]) for each in pod["dnsConfig"]["options"]}
        assert options["timeout"] * options["attempts"] <= 2


def test_whatever_a_pod_mounts_is_declared(everything: list[Declared]) -> None:
    secrets, maps = of_kind(everything, "Secret"), of_kind(everything, "ConfigMap")
    accounts = of_kind(everything, "ServiceAccount")
    claims = of_kind(everything, "StatefulSet")["zookeeper"]["spec"]["volumeClaimTemplates"]
    claimed = {"zookeeper": {each["metadata"]["name"] for each in claims}}
    for name, pod in pods(everything).items():
        volumes = {each["name"] for each in pod["volumes"]} | claimed.get(name, set())
        assert {m["name"] for c in pod["containers"] for m in c["volumeMounts"]} <= volumes, name
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
        assert pod["serviceAccountName"] in accounts


def test_a_service_is_told_where_everything_is(everything: list[Declared]) -> None:
    maps = of_kind(everything, "ConfigMap")
    (text,) = (each["data"]["service.toml"] for name, each in maps.items() if "iam-" in name)
    told = tomllib.loads(text)
    assert told["store"] == "abc"
    assert told["domain"] == ["abc.example.test"]
    assert told["cluster_listen"] == "0.0.0.0:7202"
    assert told["zookeeper"] == [f"zookeeper-{number}.zookeeper:2281" for number in range(3)]
    assert told["ceph_pools"] == {"log": "abc.log", "open": "abc.open", "cold": "abc.cold"}
    pod = pods(everything)["iam"]
    mounted = {m["mountPath"] for c in pod["containers"] for m in c["volumeMounts"]}
    paths = [value for key, value in told.items() if key.endswith(("_ca", "_cert", "_key"))]
    for path in [*paths, told["ceph_conf"], told["data"]]:
        assert {path, str(Path(path).parent)} & mounted, path


def test_front_ends_are_told_what_becomes_of_objects_by_default() -> None:
    maps = of_kind(declared(encryption="AES256"), "ConfigMap")
    (text,) = (
        each["data"]["service.toml"] for name, each in maps.items() if "object-controller-" in name
    )
    assert {key: tomllib.loads(text)[key] for key in ("encryption", "compression")} == {
        "encryption": "AES256",
        "compression": "none",
    }


def test_secrets_hold_what_the_roles_left(everything: list[Declared]) -> None:
    secrets = of_kind(everything, "Secret")
    keyring = base64.b64decode(secrets["ceph-metadata"]["data"]["keyring"]).decode()
    assert keyring == "what ceph/abc.client.metadata.keyring holds\n"
    assert secrets["master-key"]["data"]["master.key"] == MASTER_KEY
    both = base64.b64decode(secrets["zookeeper-tls"]["data"]["server.pem"]).decode()
    assert both == (
        "what authority/zookeeper/server.key holds\nwhat authority/zookeeper/server.pem holds\n"
    )


def test_no_secret_is_declared_outside_a_secret(everything: list[Declared]) -> None:
    for each in everything:
        if each.kind.name != "Secret":
            assert MASTER_KEY not in str(each.object)
            assert "holds" not in str(each.object)


def test_only_the_load_balancers_account_may_ask_the_api_and_only_look(
    everything: list[Declared],
) -> None:
    bound = [
        subject["name"]
        for each in of_kind(everything, "RoleBinding", "ClusterRoleBinding").values()
        for subject in each["subjects"]
        if subject["kind"] == "ServiceAccount"
    ]
    assert set(bound) == {"endpoints"}
    for rules in access.ROLES.values():
        for rule in rules:
            assert rule["verbs"] == ["get", "list", "watch"]


def test_policies_let_in_what_is_declared_and_nobody_else(everything: list[Declared]) -> None:
    policies = of_kind(everything, "NetworkPolicy")
    assert set(policies) == {*names.SERVICES, "zookeeper"}
    front, asked = policies["object-controller"]["spec"]["ingress"]
    assert front["ports"] == asked["ports"] == [{"protocol": "TCP", "port": 7200}]
    assert front["from"] == [{"ipBlock": {"cidr": "10.77.0.13/32"}}]
    assert {"podSelector": {}} not in asked["from"]
    for rule in traffic.declared():
        if rule.to in policies:
            ports = [p["port"] for i in policies[rule.to]["spec"]["ingress"] for p in i["ports"]]
            assert set(rule.ports) <= set(ports)


def test_a_range_of_ports_and_anybody_are_understood() -> None:
    rule = traffic.Rule("atlas", ("6800-6899",), "TCP", ("anywhere",))
    policy = traffic.policies([rule], [], [])["atlas"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 6800, "endPort": 6899}]}]


def test_the_api_server_takes_all_of_it(everything: list[Declared], objects: Objects) -> None:
    ordered = sorted(everything, key=lambda each: each.kind.name != "Namespace")
    for each in ordered:
        if each.kind.name == "Namespace":
            objects.create(each.kind, each.object, lambda line: None)
        objects.preview(each.kind, None, each.object)
