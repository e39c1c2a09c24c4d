"""What the modules of the role `ceph` say to a real cluster: its state, pools, users and rights."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.plugins import plugin
from tests.ceph.cluster import OSDS, missing

pools = plugin("modules", "ceph_pool")
status = plugin("modules", "ceph_status")
users = plugin("modules", "ceph_user")
keys = plugin("modules", "ceph_keys")

if not missing():
    import rados
    from ansible.module_utils import ceph_admin


@pytest.fixture
def admin(ceph: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(ceph_admin, "CONF", str(ceph / "ceph.conf"))
    with ceph_admin.Admin() as connected:
        yield connected


@pytest.fixture
def name() -> str:
    return f"modules-{secrets.token_hex(4)}"


def wanted(**changes: int) -> dict[str, Any]:
    given = {"pg_num": 4, "min_size": 2, "size": 3, "k": None, "m": None}
    found: dict[str, Any] = pools.described(given | changes, "objectstore")
    return found


def test_a_fresh_answer_says_that_all_is_clean(admin: Any):
    admin.wait_clean(60)
    facts = status.cluster_facts(admin)
    assert facts["clean"]
    assert facts["manager"]
    assert len(facts["quorum"]) == facts["monitors"] == 1
    assert list(facts["osds"].values()) == [{"up": True, "in": True}] * OSDS
    assert 0 <= facts["used_share"] < facts["nearfull_share"] < facts["full_share"] < 1


def test_a_pool_becomes_what_is_asked_for_and_then_stays(admin: Any, name: str):
    pools.bring(admin, name, None, wanted())
    assert pools.existing(admin)[name] == wanted()
    pools.bring(admin, name, wanted(), wanted(min_size=1))
    assert pools.existing(admin)[name] == wanted(min_size=1)
    admin.wait_clean(60)


def test_an_erasure_coded_pool_is_recognised(admin: Any, name: str):
    pools.bring(admin, name, None, wanted(size=None, k=2, m=1))
    assert pools.existing(admin)[name] == wanted(size=None, k=2, m=1)
    # Its pieces need three hosts, which this cluster has not: others would wait for it for ever.
    admin.ask("osd pool delete", pool=name, pool2=name, yes_i_really_really_mean_it=True)


def test_a_user_may_do_what_it_was_given_and_nothing_else(admin: Any, name: str, ceph: Path):
    mine, other = f"{name}.mine", f"{name}.other"
    for one in (mine, other):
        pools.bring(admin, one, None, wanted())
    key, caps = keys.new_key(), {"mon": "allow r", "osd": f"allow rwx pool={mine}"}
    keyring = ceph_admin.keyring({f"client.{name}": (key, caps)})
    admin.raw("auth import", keyring.encode())
    rows = {row["entity"]: row for row in admin.ask("auth ls")["auth_dump"]}
    assert users.shown(rows[f"client.{name}"], key) == {"key": "as it should be", **caps}

    client = rados.Rados(conffile=str(ceph / "ceph.conf"), name=f"client.{name}", conf={"key": key})
    client.connect(timeout=5)
    try:
        with client.open_ioctx(mine) as allowed:
            allowed.write_full("object", b"content")
            assert allowed.read("object") == b"content"
        with client.open_ioctx(other) as forbidden:
            with pytest.raises(rados.PermissionError):
                forbidden.read("object")
            with pytest.raises(rados.PermissionError):
                forbidden.write_full("object", b"content")
    finally:
        client.shutdown()
