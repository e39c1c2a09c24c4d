"""Sealed secrets and derived signing keys."""

from __future__ import annotations

import pytest

from objectstore_app.iam import keyring
from objectstore_app.iam.errors import SealError
from objectstore_app.iam.keyring import Keyring
from objectstore_app.protocol.sigv4 import signing_key

MASTER = bytes(range(32))


def test_sealed_secret_opens_again_in_another_process() -> None:
    sealed = Keyring(MASTER).seal("AK", "secret")
    assert b"secret" not in sealed
    assert Keyring(MASTER).open("AK", sealed) == "secret"


def test_sealing_twice_gives_different_bytes() -> None:
    ring = Keyring(MASTER)
    assert ring.seal("AK", "secret") != ring.seal("AK", "secret")


@pytest.mark.parametrize("position", [0, 1, 12, 13, -1])
def test_damaged_secret_does_not_open(position: int) -> None:
    damaged = bytearray(Keyring(MASTER).seal("AK", "secret"))
    damaged[position] ^= 1
    with pytest.raises(SealError):
        Keyring(MASTER).open("AK", bytes(damaged))


def test_truncated_secret_does_not_open() -> None:
    sealed = Keyring(MASTER).seal("AK", "secret")
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            Keyring(MASTER).open("AK", sealed[:length])


def test_secret_of_another_access_key_or_master_key_does_not_open() -> None:
    sealed = Keyring(MASTER).seal("AK", "secret")
    with pytest.raises(SealError):
        Keyring(MASTER).open("OTHER", sealed)
    with pytest.raises(SealError):
        Keyring(bytes(32)).open("AK", sealed)


def test_master_key_must_have_32_bytes() -> None:
    with pytest.raises(SealError):
        Keyring(b"short")


def test_signing_key_is_that_of_date_and_region() -> None:
    ring = Keyring(MASTER)
    sealed = ring.seal("AK", "secret")
    for date in ("20260101", "20260102"):
        for region in ("us-east-1", "eu-1"):
            for _ in range(2):
                expected = signing_key("secret", date, region)
                derived = ring.signing_key("AK", sealed, date, region)
                assert derived.sign(b"text") == expected.sign(b"text")


def test_caches_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "CACHED_SECRETS_MAX", 4)
    monkeypatch.setattr(keyring, "CACHED_SIGNING_KEYS_MAX", 4)
    ring = Keyring(MASTER)
    sealed = {f"AK{n}": ring.seal(f"AK{n}", f"secret{n}") for n in range(20)}
    for _ in range(2):
        for key, value in sealed.items():
            assert ring.open(key, value) == key.replace("AK", "secret")
            ring.signing_key(key, value, "20260101", "us-east-1")
    assert len(ring._secrets) <= 4
    assert len(ring._signing_keys) <= 4
