"""Ansible module: the one OSD of a node, BlueStore on a file or on a device.

Theory of operation. The cluster says which OSD is this node's (its host in the CRUSH map), the data
folder says whether it is made. What is known there and not here was lost with the node's disk: its
number is taken again, so that nothing moves but what has to be copied back. A folder counts as made
when `ready` is in it, which `ceph-osd --mkfs` writes last; an interrupted one is made again.

Leaving: weight 0, wait until the OSD holds nothing any more, stop, purge. Emptying is asked for in
rounds, so that whoever waits can say how far it is. An OSD of weight 0 that is to be present gets
its weight back, as when its node stays after all.
"""

from __future__ import annotations

import shutil
import stat
import time
import uuid
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ceph_admin import (
    DATA,
    Admin,
    CephError,
    Unit,
    keyring,
    make_folder,
    own,
    run,
    wait,
    write_private,
)

DOCUMENTATION = """
module: ceph_osd
short_description: A node's OSD
description:
  - Makes it, enables and starts it and waits until it is up and in; or empties and removes it.
  - Emptying returns RV(left), the number of placement groups that it holds still.
options:
  node:
    description: This node's name, the OSD's host in the CRUSH map.
    type: str
    required: true
  device:
    description: The block device that it lies on; without one, a file of C(bluestore_block_size).
    type: path
    default: ""
  hosts_min:
    description: With how many other hosts of OSDs the pools still have all of their replicas.
    type: int
    default: 3
  state:
    description:
      - Whether the node has an OSD. C(emptied) moves its data to others for at most O(timeout_s).
    type: str
    choices: [present, emptied, absent]
    default: present
  here:
    description:
      - Whether this is run on the node itself; otherwise on one that speaks for it, because it
        does not answer any more.
    type: bool
    default: true
  timeout_s:
    description: How long it may take to be up and in, or to be emptied.
    type: int
    default: 60
"""

FOLDERS = DATA / "osd"
READY = "ready"
NOTE = FOLDERS / "making"
LABEL_BYTES = 4096
ROUND_POLL_S = 1
CAPS = ["mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "device": {"type": "path", "default": ""},
            "hosts_min": {"type": "int", "default": 3},
            "state": {
                "type": "str",
                "choices": ["present", "emptied", "absent"],
                "default": "present",
            },
            "here": {"type": "bool", "default": True},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    act = {"present": join, "emptied": empty, "absent": leave}[params["state"]]
    try:
        before, after = act(params, check_mode=module.check_mode)
    except CephError as error:
        module.fail_json(msg=f"{params['node']}: {error}")
    if params["state"] == "emptied":
        left = after["placement_groups"] if after else 0
        module.exit_json(changed=before != after, left=left)
    module.exit_json(
        changed=before != after, osd=after, diff={"before": before or "", "after": after or ""}
    )


def join(params: dict, *, check_mode: bool) -> tuple[dict | None, dict | None]:
    number = number_here()
    if number is not None and Unit("osd", str(number)).state() == "running":
        with Admin() as admin:
            before = state_of(admin, number)
            if not lacking(before):
                return before, before
    if check_mode:
        return None, {"number": number, "up": 1, "in": 1}
    with Admin() as admin:
        if number is None:
            number = make(admin, params["node"], params["device"], params["timeout_s"])
        unit = Unit("osd", str(number))
        unit.start()
        # One that was marked out, by hand or because it was away for long, belongs in again.
        admin.ask("osd in", ids=[str(number)])
        give_weight(admin, number)
        wait(lambda: lacking(state_of(admin, number)), "the OSD up and in", params["timeout_s"])
        return None, state_of(admin, number)


def empty(params: dict, *, check_mode: bool) -> tuple[dict | None, dict | None]:
    """Take the OSD's weight, and wait a while; what it holds before and after. None: no OSD."""
    with Admin() as admin:
        hosts = hosts_of_osds(admin)
        numbers = hosts.get(params["node"], [])
        if not numbers:
            return None, None
        refuse_too_few(admin, hosts, params["node"], params["hosts_min"])
        refuse_too_small(admin, hosts, params["node"], params["hosts_min"])
        before = held(admin, numbers)
        if check_mode:
            return {"placement_groups": before}, None
        for one in numbers:
            # Not `out`: what is purged with weight would move data a second time.
            admin.ask("osd crush reweight", name=f"osd.{one}", weight=0.0)
        deadline = time.monotonic() + params["timeout_s"]
        admin.refresh()
        while (after := held(admin, numbers)) and time.monotonic() < deadline:
            time.sleep(ROUND_POLL_S)
        return {"placement_groups": before}, {"placement_groups": after}


def leave(params: dict, *, check_mode: bool) -> tuple[dict | None, dict | None]:
    with Admin() as admin:
        hosts = hosts_of_osds(admin)
        number = number_here() if params["here"] else None
        known = hosts.get(params["node"], [])
        if number is None and not known:
            return None, None
        refuse_too_few(admin, hosts, params["node"], params["hosts_min"])
        before = {"number": number}
        if check_mode:
            return before, None
        numbers = sorted({*known, *([] if number is None else [number])})
        for one in numbers:
            admin.ask("osd crush reweight", name=f"osd.{one}", weight=0.0)
        wait(lambda: still_there(admin, numbers), "its data elsewhere", params["timeout_s"])
        admin.wait_clean(params["timeout_s"])
        for one in numbers:
            if params["here"]:
                Unit("osd", str(one)).stop()
            admin.ask("osd down", ids=[str(one)])
            admin.ask("osd purge-actual", id=one, yes_i_really_mean_it=True)
            if params["here"]:
                shutil.rmtree(FOLDERS / f"ceph-{one}", ignore_errors=True)
        admin.ask("osd crush remove", name=params["node"])
    return before, None


def refuse_too_few(admin: Admin, hosts: dict[str, list[int]], node: str, hosts_min: int) -> None:
    """The hosts that stay have OSDs that run, enough of them for all replicas. Raises CephError."""
    rows = admin.ask("osd dump")["osds"]
    running = {row["osd"] for row in rows if row["up"] and row["in"]}
    staying = [name for name, numbers in hosts.items() if name != node and running & set(numbers)]
    if len(staying) < hosts_min:
        raise CephError(
            f"{hosts_min} other nodes with a running OSD are needed, there are {len(staying)}: "
            f"{', '.join(sorted(staying)) or 'none'}. Mend the others, or let another node join, "
            "before this one leaves"
        )


def refuse_too_small(admin: Admin, hosts: dict[str, list[int]], node: str, hosts_min: int) -> None:
    """All that is stored fits on the hosts that stay. With no more hosts than replicas each of them
    holds a copy of everything, so that the smallest one decides. Raises CephError.
    """
    rows = {row["id"]: row for row in admin.ask_manager("osd df")["nodes"]}
    rooms = [
        sum(rows[number]["kb"] for number in numbers if number in rows)
        for name, numbers in hosts.items()
        if name != node
    ]
    room_kb = sum(rooms) if len(rooms) > hosts_min else min(rooms) * len(rooms)
    nearfull = admin.ask("osd dump")["nearfull_ratio"]
    used_kb = sum(row["kb_used"] for row in rows.values())
    if used_kb > room_kb * nearfull:
        raise CephError(
            f"{gib(used_kb)} are used, and without this node only {gib(room_kb * nearfull)} may "
            "be: delete objects, or keep the node"
        )


def gib(kb: float) -> str:
    return f"{kb / (1 << 20):.1f} GiB"


def number_here() -> int | None:
    """The number of the OSD that was made on this node."""
    found = [path for path in sorted(FOLDERS.glob("ceph-*")) if (path / READY).is_file()]
    if len(found) > 1:
        raise CephError(f"several OSDs lie here: {', '.join(map(str, found))}")
    return int(found[0].name.removeprefix("ceph-")) if found else None


def hosts_of_osds(admin: Admin) -> dict[str, list[int]]:
    """Host → its OSDs, as the CRUSH map has them."""
    rows = admin.ask("osd tree")["nodes"]
    hosts = {row["name"]: row["children"] for row in rows if row["type"] == "host"}
    return {name: children for name, children in hosts.items() if children}


def state_of(admin: Admin, number: int) -> dict[str, Any] | None:
    """`weightless` is one that was to be emptied: it gets no data."""
    tree = admin.ask("osd tree")["nodes"]
    weights = {row["id"]: row["crush_weight"] for row in tree if row["type"] == "osd"}
    for row in admin.ask("osd dump")["osds"]:
        if row["osd"] == number:
            state = {"number": number, "up": row["up"], "in": row["in"]}
            return state | ({"weightless": True} if weights.get(number) == 0 else {})
    return None


def lacking(state: dict[str, Any] | None) -> str:
    if state is None:
        return "no such OSD"
    if state.get("weightless"):
        return "its weight is 0"
    return "" if state["up"] and state["in"] else f"up {state['up']}, in {state['in']}"


def give_weight(admin: Admin, number: int) -> None:
    """The weight that it would get as a new one, its size in TiB, where it has none."""
    state = state_of(admin, number)
    if state and state.get("weightless"):
        rows = {row["id"]: row for row in admin.ask_manager("osd df")["nodes"]}
        admin.ask("osd crush reweight", name=f"osd.{number}", weight=rows[number]["kb"] / (1 << 30))


def held(admin: Admin, numbers: list[int]) -> int:
    """How many placement groups these OSDs hold. They tell so themselves, and let go of one only
    when it is whole elsewhere.
    """
    rows = admin.ask_manager("pg dump", dumpcontents=["osds"])["osd_stats"]
    return sum(row["num_pgs"] for row in rows if row["osd"] in numbers)


def still_there(admin: Admin, numbers: list[int]) -> str:
    left = held(admin, numbers)
    return f"{left} placement groups" if left else ""


def make(admin: Admin, node: str, device: str, timeout_s: int) -> int:
    """A new OSD of this node, its number. Its identity is noted first: with the same one, an
    interrupted run's number is given out again.
    """
    FOLDERS.mkdir(parents=True, exist_ok=True)
    if not NOTE.is_file():
        write_private(NOTE, str(uuid.uuid4()))
    identity = NOTE.read_text()
    if device:
        check_device(Path(device), identity)
    number = new_number(admin, node, identity, timeout_s)
    name, folder = f"osd.{number}", FOLDERS / f"ceph-{number}"
    key = admin.ask("auth get-or-create", entity=name, caps=CAPS)[0]["key"]
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    write_private(folder / "keyring", keyring({name: (key, {})}))
    if device:
        (folder / "block").symlink_to(device)
        own(Path(device))
    run(
        *("ceph-osd", "--mkfs", "-i", str(number), "--osd-uuid", identity),
        *("--osd-data", str(folder), "--setuser", "ceph", "--setgroup", "ceph"),
    )
    NOTE.unlink()
    return number


def new_number(admin: Admin, node: str, identity: str, timeout_s: int) -> int:
    """The number of the OSD that this node had and lost, else a new one."""
    lost = hosts_of_osds(admin).get(node, [])
    if not lost:
        return int(admin.ask("osd new", uuid=identity)["osdid"])
    number = lost[0]
    rows = {row["osd"]: row for row in admin.ask("osd dump")["osds"]}
    if rows[number]["uuid"] != identity:
        wait(lambda: is_up(admin, number), f"osd.{number}, which this node lost, down", timeout_s)
        admin.ask("osd destroy-actual", id=number, yes_i_really_mean_it=True)
    return int(admin.ask("osd new", uuid=identity, id=number)["osdid"])


def is_up(admin: Admin, number: int) -> str:
    state = state_of(admin, number)
    return "it is up" if state and state["up"] else ""


def check_device(device: Path, identity: str) -> None:
    """Only an empty device is taken, or the one that an interrupted run began with."""
    if not device.exists() or not stat.S_ISBLK(device.stat().st_mode):
        raise CephError(f"{device} is no block device")
    with device.open("rb") as file:
        label = file.read(LABEL_BYTES)
    if any(label) and identity.encode() not in label:
        raise CephError(
            f"{device} holds data: name another device, or empty it (wipefs, blkdiscard)"
        )


if __name__ == "__main__":
    main()
