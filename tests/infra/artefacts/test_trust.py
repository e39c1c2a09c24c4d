"""Trust: this machine's own key is private and lasts; others are trusted by name and on purpose."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from objectstore_infra.artefacts import trust
from objectstore_infra.artefacts.errors import BundleError

OTHER = base64.b64encode(bytes(range(32))).decode()


def test_the_key_is_kept_private_and_used_again(tmp_path: Path):
    first = trust.public_text(trust.own_key())
    assert (tmp_path / "state" / trust.KEY).stat().st_mode & 0o777 == 0o600
    assert trust.public_text(trust.own_key()) == first
    assert [path.name for path in (tmp_path / "state").iterdir()] == [trust.KEY]


def test_asking_whom_to_trust_makes_no_key(tmp_path: Path):
    assert trust.trusted() == set()
    assert not (tmp_path / "state").exists()


def test_a_builder_is_trusted_once_until_removed():
    own = trust.public_text(trust.own_key())
    trust.add(OTHER)
    trust.add(OTHER)
    trust.add(own)
    assert (trust.others(), trust.trusted()) == ([OTHER], {own, OTHER})
    trust.remove(OTHER)
    assert trust.trusted() == {own}
    with pytest.raises(BundleError, match="not among the trusted keys"):
        trust.remove(OTHER)


@pytest.mark.parametrize("text", ["", "key", "AAAA", OTHER[:-4], OTHER + "\n" + OTHER, "ключ"])
def test_what_is_no_public_key_is_refused(text: str):
    with pytest.raises(BundleError, match="no public key"):
        trust.add(text)
    assert trust.trusted() == set()


def test_a_damaged_key_is_named(tmp_path: Path):
    trust.own_key()
    (tmp_path / "state" / trust.KEY).write_text("torn")
    with pytest.raises(BundleError, match="bundle-key holds no signing key"):
        trust.own_key()
