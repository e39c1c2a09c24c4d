"""The store's names on its DNS address: who is answered, with what, and which node answers."""

from __future__ import annotations

import pytest

from tests.validation.dns_client import ask

pytestmark = pytest.mark.promise("D5")

QUESTIONS_MAX = 60


@pytest.fixture(scope="module")
def zone(store) -> str:
    return f"{store.name}.{store.domain}"


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("below", ["", "some-bucket.", "a.bucket.with.periods."])
def test_the_stores_name_and_all_below_it_stand_for_the_client_addresses(store, zone, below, tcp):
    answer = ask(store.dns_address, f"{below}{zone}", "A", tcp=tcp)
    assert (answer.rcode, answer.authoritative) == ("NOERROR", True)
    assert sorted(answer.addresses()) == sorted(store.client_addresses)
    assert all(record.ttl_s <= 60 for record in answer.records)


def test_each_client_address_comes_first_now_and_then(store, zone):
    firsts = set()
    for _ in range(QUESTIONS_MAX):
        firsts.add(ask(store.dns_address, zone, "A").addresses()[0])
        if len(firsts) == len(store.client_addresses):
            return
    pytest.fail(f"of {store.client_addresses} only {firsts} came first")


def test_names_have_no_ipv6_addresses_and_say_so(store, zone):
    for name in (zone, f"some-bucket.{zone}"):
        answer = ask(store.dns_address, name, "AAAA")
        assert (answer.rcode, answer.records) == ("NOERROR", [])
        assert [(record.name, record.kind) for record in answer.authority] == [(zone, "SOA")]


def test_the_zone_names_its_server(store, zone):
    (server,) = ask(store.dns_address, zone, "NS").records
    assert ask(store.dns_address, zone, "SOA").records[0].data == server.data
    assert ask(store.dns_address, server.data, "A").addresses() == [store.dns_address]


def test_names_that_are_not_the_stores_are_refused(store):
    for name in (store.domain, f"other.{store.domain}", "example.com"):
        answer = ask(store.dns_address, name, "A")
        assert (answer.rcode, answer.records) == ("REFUSED", [])


def test_every_default_node_answers_once_it_owns_the_address(shells, default_node):
    shell = shells[default_node]
    service = shell.service("objectstore-dns")
    assert service.is_running
    assert service.is_enabled
    assert shell.check_output("sysctl -n net.ipv4.ip_nonlocal_bind") == "1"
