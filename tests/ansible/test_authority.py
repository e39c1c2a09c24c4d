"""Certificates of the store's own authorities: made once, renewed when they no longer fit."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.ansible.plugins import plugin

store_authority = plugin("modules", "store_authority")


def asked(directory: Path, **changes: object):
    params = {
        "directory": str(directory),
        "authority": "abc-oss cluster",
        "name": "abc-oss-default-0",
        "dns_names": ["abc-oss-default-0", "default-0"],
        "addresses": ["192.0.2.10"],
        "client": True,
        "valid_days": 730,
        "renew_days": 60,
    }
    return store_authority.Wanted(params | changes)


def made(directory: Path, *, check_mode: bool = False, **changes: object) -> dict:
    return store_authority.ensure(asked(directory, **changes), check_mode=check_mode)


def test_a_certificate_is_made_once(tmp_path: Path):
    first, second = made(tmp_path / "a"), made(tmp_path / "a")
    assert first["changed"]
    assert not second["changed"]
    assert first["certificate"] == second["certificate"]
    assert first["key"] == second["key"]


def test_it_names_what_was_asked_for_and_is_signed_by_the_authority(tmp_path: Path):
    result = made(tmp_path)
    cert = x509.load_pem_x509_certificate(result["certificate"].encode())
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(result["authority"].encode()))
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["abc-oss-default-0", "default-0"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.10"]
    usages = list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usages == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def test_it_is_made_anew_when_its_names_change(tmp_path: Path):
    made(tmp_path)
    changed = made(tmp_path, addresses=["192.0.2.11"])
    assert changed["changed"]
    assert changed["why"] == "its names changed"


def test_it_is_made_anew_when_it_is_about_to_end(tmp_path: Path):
    made(tmp_path, valid_days=30)
    renewed = made(tmp_path)
    assert renewed["changed"]
    ends = datetime.datetime.fromisoformat(renewed["not_after"])
    assert ends - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=700)


def test_it_is_made_anew_when_the_authority_was_replaced(tmp_path: Path):
    made(tmp_path)
    for name in ("ca.pem", "ca.key"):
        (tmp_path / name).unlink()
    assert made(tmp_path)["changed"]
    assert not made(tmp_path)["changed"]


def test_two_nodes_share_one_authority(tmp_path: Path):
    first, second = made(tmp_path), made(tmp_path, name="abc-oss-default-1")
    assert first["authority"] == second["authority"]
    assert first["certificate"] != second["certificate"]


def test_check_mode_writes_nothing(tmp_path: Path):
    result = made(tmp_path / "a", check_mode=True)
    assert result["changed"]
    assert "BEGIN CERTIFICATE" in result["certificate"]
    assert not (tmp_path / "a").exists()


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path):
    made(tmp_path / "a")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a").glob("*.key")} == {0o600}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
