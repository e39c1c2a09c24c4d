"""Ceph's modules without a cluster: keys, what changes and what is refused, order and waiting.

What they say to a real cluster is tested in tests/ceph/test_modules.py and on the deployment.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.plugins import plugin

keys = plugin("modules", "ceph_keys")
osd = plugin("modules", "ceph_osd")
pool = plugin("modules", "ceph_pool")
restart = plugin("modules", "ceph_restart")
user = plugin("modules", "ceph_user")
cluster = plugin("modules", "ceph_cluster")

NAMES = ["mon.", "client.admin", "client.metadata"]


class Answers:
    """A cluster that answers from a table, and notes what it is asked to change."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.changes: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def ask(self, prefix: str, **arguments: Any) -> Any:
        answer = self.answers.get(prefix.replace(" ", "_").replace("-", "_"))
        if answer is None:
            self.changes.append((prefix, arguments))
        return answer(**arguments) if callable(answer) else answer

    ask_manager = ask

    def wait_clean(self, _limit_s: float) -> None:
        self.changes.append(("wait clean", {}))

    def refresh(self) -> None:
        """What it answers is as of now."""

    def asked(self) -> list[str]:
        return [prefix for prefix, _ in self.changes]


def made(folder: Path, *, check_mode: bool = False) -> tuple[dict[str, str], list[str]]:
    found: tuple[dict[str, str], list[str]] = keys.ensure(
        folder, "abc-oss", NAMES, check_mode=check_mode
    )
    return found


def test_keys_are_made_once_and_only_the_operator_reads_them(tmp_path: Path):
    first, second = made(tmp_path / "ceph"), made(tmp_path / "ceph")
    assert first[1] == NAMES
    assert second == (first[0], [])
    files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("ceph/*.keyring")}
    assert files == dict.fromkeys(
        ["abc-oss.client.admin.keyring", "abc-oss.client.metadata.keyring", "abc-oss.mon.keyring"],
        0o600,
    )


def test_a_key_is_what_ceph_takes_for_one(tmp_path: Path):
    raw = base64.b64decode(made(tmp_path)[0]["client.metadata"])
    kind, _, nanoseconds, length = struct.unpack("<hiih", raw[:12])
    assert (kind, nanoseconds, length, len(raw)) == (1, 0, 16, 28)


def test_keys_of_a_cluster_that_exists_are_not_made_anew(tmp_path: Path):
    with pytest.raises(ValueError, match=r"keys of mon\. are not here.*make restore"):
        keys.refuse_new(tmp_path, "abc-oss", ["mon."])
    made(tmp_path)
    keys.refuse_new(tmp_path, "abc-oss", ["mon."])


def test_check_mode_makes_no_key(tmp_path: Path):
    assert made(tmp_path / "ceph", check_mode=True)[1] == NAMES
    assert not (tmp_path / "ceph").exists()


def test_a_keyring_of_somebody_else_is_refused(tmp_path: Path):
    (tmp_path / "abc-oss.client.metadata.keyring").write_text("[client.other]\n\tkey = abc=\n")
    with pytest.raises(ValueError, match=r"no keyring of client\.metadata"):
        made(tmp_path)


def replicated(**changes: Any) -> dict[str, Any]:
    given = {"name": "s.log", "pg_num": 16, "min_size": 2, "size": 3, "k": None, "m": None}
    found: dict[str, Any] = pool.described(given | changes, "objectstore")
    return found


def test_an_erasure_coded_pool_is_told_by_its_pieces():
    wanted = replicated(size=None, k=2, m=1)
    assert (wanted["kind"], wanted["size"]) == ("erasure 2+1", 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"size": None, "k": 2, "m": 1}, "cannot become erasure"), ({"pg_num": 8}, "never get fewer")],
)
def test_what_a_pool_cannot_become_is_refused(changes: dict[str, Any], said: str):
    with pytest.raises(pool.CephError, match=said):
        pool.refuse_impossible({"s.log": replicated()}, {"s.log": replicated(**changes)})


def test_only_what_differs_of_a_pool_is_set():
    admin = Answers()
    pool.bring(admin, "s.log", replicated(min_size=1), replicated())
    assert admin.changes == [("osd pool set", {"pool": "s.log", "var": "min_size", "val": "2"})]


def test_a_users_key_is_compared_and_never_shown():
    row = {"entity": "client.metadata", "key": "secret", "caps": {"mon": "allow r"}}
    assert user.shown(row, "secret") == {"key": "as it should be", "mon": "allow r"}
    assert user.shown(row, "other") == {"key": "another", "mon": "allow r"}


def hosts(**numbers: list[int]) -> dict[str, Any]:
    rows = [{"type": "host", "name": name, "children": ids} for name, ids in numbers.items()]
    return {"nodes": [{"type": "root", "name": "default", "children": []}, *rows]}


def dump(*running: int) -> dict[str, Any]:
    rows = [{"osd": number, "up": int(number in running), "in": 1} for number in range(4)]
    return {"osds": rows, "nearfull_ratio": 0.85}


LEAVING = {
    "node": "d3",
    "device": "",
    "hosts_min": 3,
    "state": "absent",
    "here": True,
    "timeout_s": 5,
}
FOUR = hosts(d0=[0], d1=[1], d2=[2], d3=[3])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(osd, "FOLDERS", tmp_path)
    monkeypatch.setattr(osd, "NOTE", tmp_path / "making")
    return tmp_path


def held(*counts: int) -> Callable[..., Any]:
    """What OSD 3 tells it still holds, the last for ever."""
    left = list(counts)

    def answer(**_: Any) -> Any:
        count = left.pop(0) if len(left) > 1 else left[0]
        return {"osd_stats": [{"osd": 0, "num_pgs": 64}, {"osd": 3, "num_pgs": count}]}

    return answer


def test_an_osd_is_purged_when_it_holds_nothing_any_more(
    folders: Path, monkeypatch: pytest.MonkeyPatch
):
    (folders / "ceph-3").mkdir()
    (folders / "ceph-3" / "ready").write_text("ready\n")
    admin = Answers(osd_tree=FOUR, osd_dump=dump(0, 1, 2, 3), pg_dump=held(20, 7, 0))
    monkeypatch.setattr(osd, "Admin", lambda: admin)
    monkeypatch.setattr(osd.Unit, "stop", lambda unit: admin.changes.append((unit.name, {})))
    assert osd.leave(LEAVING, check_mode=False) == ({"number": 3}, None)
    assert admin.asked() == [
        "osd crush reweight", "wait clean", "ceph-osd@3.service", "osd down", "osd purge-actual",
        "osd crush remove",
    ]  # fmt: skip
    assert not (folders / "ceph-3").exists()


def test_an_osd_that_still_holds_something_stays(folders: Path, monkeypatch: pytest.MonkeyPatch):
    admin = Answers(osd_tree=FOUR, osd_dump=dump(0, 1, 2, 3), pg_dump=held(1))
    monkeypatch.setattr(osd, "Admin", lambda: admin)
    with pytest.raises(osd.CephError, match="there is: 1 placement groups"):
        osd.leave(LEAVING | {"timeout_s": 0}, check_mode=False)
    assert admin.asked() == ["osd crush reweight"]


def test_the_third_last_node_cannot_leave(folders: Path, monkeypatch: pytest.MonkeyPatch):
    admin = Answers(osd_tree=hosts(d0=[0], d1=[1], d3=[3]), osd_dump=dump(0, 1, 3))
    monkeypatch.setattr(osd, "Admin", lambda: admin)
    with pytest.raises(osd.CephError, match="let another node join"):
        osd.leave(LEAVING, check_mode=False)
    assert not admin.changes


def rooms(stored_gib: float) -> dict[str, Any]:
    """Four OSDs of 20 GiB, evenly filled."""
    used_kb = stored_gib * (1 << 20) / 4
    return {"nodes": [{"id": n, "kb": 20 << 20, "kb_used": used_kb} for n in range(4)]}


def emptying(monkeypatch: pytest.MonkeyPatch, running: tuple[int, ...], stored_gib: float) -> Any:
    admin = Answers(
        osd_tree=FOUR, osd_dump=dump(*running), osd_df=rooms(stored_gib), pg_dump=held(20, 20, 7)
    )
    monkeypatch.setattr(osd, "Admin", lambda: admin)
    return admin


def test_an_osd_is_emptied_in_rounds_that_say_how_much_is_left(monkeypatch: pytest.MonkeyPatch):
    admin = emptying(monkeypatch, (0, 1, 2, 3), 8)
    before, after = osd.empty(LEAVING | {"timeout_s": 0}, check_mode=False)
    assert (before, after) == ({"placement_groups": 20}, {"placement_groups": 20})
    assert osd.empty(LEAVING | {"timeout_s": 0}, check_mode=False)[1] == {"placement_groups": 7}
    assert admin.changes[0] == ("osd crush reweight", {"name": "osd.3", "weight": 0.0})


def test_a_node_whose_data_fits_nowhere_else_stays(monkeypatch: pytest.MonkeyPatch):
    admin = emptying(monkeypatch, (0, 1, 2, 3), 52)
    with pytest.raises(osd.CephError, match=r"52\.0 GiB are used, .* only 51\.0 GiB may be"):
        osd.empty(LEAVING, check_mode=False)
    assert not admin.changes


def test_nobody_leaves_while_an_osd_of_the_others_is_down(monkeypatch: pytest.MonkeyPatch):
    admin = emptying(monkeypatch, (0, 1, 3), 8)
    with pytest.raises(osd.CephError, match="there are 2: d0, d1"):
        osd.empty(LEAVING, check_mode=False)
    assert not admin.changes


def test_an_osd_that_stays_after_all_gets_its_weight_back():
    tree = {"nodes": [{"type": "osd", "id": 3, "crush_weight": 0}]}
    admin = Answers(osd_tree=tree, osd_dump=dump(3), osd_df=rooms(8))
    assert osd.lacking(osd.state_of(admin, 3)) == "its weight is 0"
    osd.give_weight(admin, 3)
    assert admin.changes == [("osd crush reweight", {"name": "osd.3", "weight": 20 / 1024})]


def test_a_node_that_left_changes_nothing(folders: Path, monkeypatch: pytest.MonkeyPatch):
    admin = Answers(osd_tree=hosts(d0=[0], d1=[1], d2=[2]))
    monkeypatch.setattr(osd, "Admin", lambda: admin)
    assert osd.leave(LEAVING, check_mode=False) == (None, None)
    assert not admin.changes


def numbered(identity: str, *, up: int = 0, known: str = "of the lost disk") -> tuple[int, Answers]:
    rows = iter([up, 0])

    def dump() -> Any:
        return {"osds": [{"osd": 1, "uuid": known, "up": next(rows, 0), "in": 1}]}

    admin = Answers(
        osd_tree=hosts(d0=[0], d1=[1], d2=[2]),
        osd_dump=dump,
        osd_new=lambda **asked: {"osdid": asked["id"]},
    )
    return osd.new_number(admin, "d1", identity, 5), admin


def test_a_replaced_node_takes_the_number_of_the_osd_it_lost():
    number, admin = numbered("new", up=1)
    assert number == 1
    assert admin.asked() == ["osd destroy-actual"]


def test_an_interrupted_run_gets_its_number_again():
    number, admin = numbered("begun", known="begun")
    assert number == 1
    assert not admin.changes


def test_a_new_node_gets_a_new_number():
    admin = Answers(osd_tree=hosts(d0=[0]), osd_new=lambda uuid: {"osdid": 7})
    assert osd.new_number(admin, "d1", "new", 5) == 7


def test_a_device_with_data_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    device = tmp_path / "sdb"
    monkeypatch.setattr(osd.stat, "S_ISBLK", lambda _mode: True)
    device.write_bytes(b"bluestore block device\n1-2-3\n" + bytes(4096))
    with pytest.raises(osd.CephError, match="holds data"):
        osd.check_device(device, "4-5-6")
    osd.check_device(device, "1-2-3")
    device.write_bytes(bytes(8192))
    osd.check_device(device, "4-5-6")


@pytest.fixture
def noout_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a restart notes that the flag is its own."""
    note = tmp_path / "noout"
    monkeypatch.setattr(restart, "NOOUT_IS_OURS", note)
    return note


def test_daemons_are_restarted_in_order_and_replicas_stay_meanwhile(
    monkeypatch: pytest.MonkeyPatch, noout_note: Path
):
    count = iter(range(100))
    admin = Answers(
        osd_dump=lambda: {"flags": "", "osds": [{"osd": 0, "up": 1, "up_from": next(count)}]},
        quorum_status=lambda: {"quorum_names": ["d0"], "election_epoch": next(count)},
    )
    monkeypatch.setattr(restart, "Admin", lambda: admin)
    monkeypatch.setattr(restart.Unit, "restart", lambda unit: admin.changes.append((unit.name, {})))
    restart.restart([("mon", "d0"), ("mgr", "d0"), ("osd", "0")], 5)
    assert admin.asked() == [
        "wait clean", "osd set", "ceph-mon@d0.service", "ceph-mgr@d0.service", "ceph-osd@0.service",
        "wait clean", "osd unset",
    ]  # fmt: skip
    assert not noout_note.exists()


@pytest.mark.parametrize("cut_off", [True, False])
def test_a_flag_of_a_run_that_was_cut_off_is_taken_back_and_an_operators_stays(
    monkeypatch: pytest.MonkeyPatch, noout_note: Path, cut_off: bool
):
    admin = Answers(osd_dump={"flags": "noout,other", "osds": []})
    monkeypatch.setattr(restart, "Admin", lambda: admin)
    if cut_off:
        noout_note.touch()
    restart.restart([], 5)
    assert ("osd unset" in admin.asked()) is cut_off


def test_what_a_run_left_that_was_cut_off_is_cleared_and_nothing_restarted(
    monkeypatch: pytest.MonkeyPatch, noout_note: Path
):
    admin = Answers()
    noout_note.touch()
    restart.clear(admin)
    assert admin.asked() == ["osd unset"]
    assert not noout_note.exists()


@pytest.mark.usefixtures("noout_note")
def test_a_restart_that_fails_leaves_no_flag_behind(monkeypatch: pytest.MonkeyPatch):
    admin = Answers(osd_dump={"flags": "", "osds": []})
    monkeypatch.setattr(restart, "Admin", lambda: admin)
    monkeypatch.setattr(restart.Unit, "restart", lambda _unit: None)
    with pytest.raises(restart.CephError, match=r"osd\.0 back"):
        restart.restart([("osd", "0")], 0)
    assert admin.asked()[-1] == "osd unset"


def member(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> Any:
    monkeypatch.setattr(cluster, "DATA", folder)
    params = {
        "fsid": "9fcb5310-cf51-57b3-8fcf-b2bab2045b8e",
        "node": "d2",
        "monitors": [{"name": f"d{n}", "address": f"192.0.2.1{n}"} for n in range(3)],
        "managers": ["d0", "d1"],
        "muted": ["SOME_CHECK"],
        "formed": False,
    }
    return cluster.Member(params | changes)


def test_a_node_has_the_daemons_that_belong_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert member(monkeypatch, tmp_path).states() == {"monitor": "absent"}
    assert member(monkeypatch, tmp_path, node="d0").states() == {
        "monitor": "absent",
        "manager": "absent",
    }
    assert member(monkeypatch, tmp_path, node="d3").states() == {}


def test_one_node_sees_to_the_silenced_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = {
        node: member(monkeypatch, tmp_path, node=node).wanted_mutes() for node in ("d0", "d1", "d2")
    }
    assert wanted == {"d0": {"muted": "SOME_CHECK"}, "d1": {}, "d2": {}}


def test_the_first_map_names_every_monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(cluster, "run", lambda *argv: said.extend(argv))
    member(monkeypatch, tmp_path)._write_map(tmp_path / "monmap")
    assert said.count("--addv") == 3
    assert "[v2:192.0.2.12:3300,v1:192.0.2.12:6789]" in said


def test_no_cluster_is_begun_where_one_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def nobody() -> None:
        raise cluster.CephError("no quorum of monitors answers")

    monkeypatch.setattr(cluster, "Admin", nobody)
    with pytest.raises(cluster.CephError, match="no quorum"):
        member(monkeypatch, tmp_path, formed=True)._write_map(tmp_path / "monmap")
