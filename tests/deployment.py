"""The one deployment that the tests share: stack `test`, made and destroyed with `make`.

`python -m tests.deployment host|up|up-again|down` are stages of tests/run.py; each fails if what it
promises is not so. The other functions tell the stages in between where the deployment is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from objectstore_infra.errors import HostError, SubstrateUnreachableError
from objectstore_infra.host import check_platform
from objectstore_infra.state_folder import INVENTORY, store_folder
from objectstore_infra.substrates.incus_client import IncusClient
from objectstore_infra.validation import store_name

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STACK = "test"
SECOND_UP_S_MAX = 60
CAP_SYS_ADMIN = 21
LOG_LINES = 40


class DeploymentError(Exception):
    """The shared deployment is not there, or not as it should be."""


def obstacle() -> str:
    """Why this machine cannot carry a deployment; empty when it can."""
    try:
        check_platform()
    except HostError as error:
        return str(error).splitlines()[0]
    status = Path("/proc/self/status").read_text(encoding="ascii")
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    if not capabilities >> CAP_SYS_ADMIN & 1:
        return "containers need the capability CAP_SYS_ADMIN, which this machine withholds"
    return ""


def run(*argv: str, show: bool = True) -> str:
    """Run a command in the repository; returns what it printed unless that is shown."""
    stdout = None if show else subprocess.PIPE
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, text=True)
    if done.returncode:
        raise DeploymentError(f"`{' '.join(argv)}` ended with {done.returncode}")
    return done.stdout or ""


def objectstore(*argv: str) -> Any:
    """What an `objectstore` command prints as JSON."""
    return json.loads(run(str(BIN / "objectstore"), *argv, show=False))


def outputs(stack: str = STACK) -> dict[str, Any]:
    """A stack's outputs, secrets included."""
    found = objectstore("stack", "output", "--stack", stack, "--json", "--show-secrets")
    if "endpoint_http" not in found:
        raise DeploymentError(f"stack {stack} is not deployed: make up STACK={stack}")
    return found


def environment(stack: str = STACK) -> dict[str, str]:
    """What tells the stages in between where the deployment is."""
    found = outputs(stack)
    folder = store_folder(store_name(found))
    return {
        "OBJECTSTORE_TEST_ENDPOINT": found["endpoint_http"],
        "OBJECTSTORE_TEST_ENDPOINT_HTTPS": found["endpoint_https"],
        "OBJECTSTORE_TEST_ACCESS_KEY": found["access_key"],
        "OBJECTSTORE_TEST_SECRET_KEY": found["secret_key"],
        "OBJECTSTORE_TEST_CA": str(folder / "authority" / "clients" / "ca.pem"),
        "OBJECTSTORE_INVENTORY": str(folder / INVENTORY),
        "OBJECTSTORE_STACK": stack,
    }


def left_of(name: str) -> list[str]:
    """What this machine still has of the store of that name."""
    links = json.loads(run("ip", "-json", "link", "show", "type", "bridge", show=False))
    found = [("bridge", link["ifname"]) for link in links]
    client = IncusClient()
    for kind in ("instances", "networks"):
        try:
            paths = client.get(f"/{kind}").metadata
        except SubstrateUnreachableError:
            break  # the daemon is stopped: it runs nothing
        found += [(kind.removesuffix("s"), path.rpartition("/")[2]) for path in paths]
    folders = store_folder(name).parent
    if folders.is_dir():
        found += [("folder", folder.name) for folder in folders.iterdir()]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append((f"process {process.parent.name}", command))
    return [f"{kind}: {what}" for kind, what in found if name in what]


def set_up_host() -> None:
    run(sys.executable, "-m", "objectstore_infra.host")


def up() -> None:
    """Deploy; fails unless the endpoint answers at the end."""
    run("make", "up", f"STACK={STACK}")
    outputs()


def up_again() -> None:
    """A second `make up` changes nothing and is quick."""
    before = resources()
    began = time.monotonic()
    run("make", "up", f"STACK={STACK}")
    took_s = time.monotonic() - began
    after = resources()
    urns = sorted(before.keys() | after.keys())
    changed = [urn for urn in urns if before.get(urn) != after.get(urn)]
    if changed:
        raise DeploymentError("the second `make up` changed: " + ", ".join(changed))
    if took_s > SECOND_UP_S_MAX:
        raise DeploymentError(f"the second `make up` took {took_s:.0f} s, not {SECOND_UP_S_MAX}")
    print(f"the second `make up` changed nothing in {took_s:.1f} s", flush=True)


def resources() -> dict[str, Any]:
    """The stack's resources by URN, as the engine recorded them.

    Secrets are left out: each export encrypts them anew.
    """
    exported = objectstore("stack", "export", "--stack", STACK)
    return {row["urn"]: without_secrets(row) for row in exported["deployment"]["resources"]}


def without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_secrets(v) for k, v in value.items() if k != "ciphertext"}
    if isinstance(value, list):
        return [without_secrets(entry) for entry in value]
    return value


def down() -> None:
    """Destroy; fails if anything is left."""
    name = store_name(outputs())
    destroy()
    left = left_of(name)
    if left:
        raise DeploymentError("`make down` left behind: " + "; ".join(left))
    print(f"nothing is left of {name}", flush=True)


def destroy() -> None:
    run("make", "down", f"STACK={STACK}")


def show_logs() -> None:
    """The end of every node's log of the store's services, for whoever reads a failed run."""
    try:
        file = Path(environment()["OBJECTSTORE_INVENTORY"])
        inventory = json.loads(file.read_text(encoding="utf-8"))
    except (DeploymentError, OSError) as error:
        print(f"no logs of the nodes: {error}", flush=True)
        return
    units = "-u 'objectstore*' -u 'envoy*'"
    command = f"systemctl --failed --no-legend; journalctl -n {LOG_LINES} --no-pager {units}"
    for name, variables in inventory["_meta"]["hostvars"].items():
        print(f"\n--- {name}: the end of its log", flush=True)
        key = variables["ansible_ssh_private_key_file"]
        arguments = variables.get("ansible_ssh_common_args", "").split()
        host = f"{variables.get('ansible_user', 'root')}@{variables['ansible_host']}"
        subprocess.run(
            ["ssh", "-i", key, "-o", "BatchMode=yes", *arguments, host, command],
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=30,
        )


ACTIONS = {"host": set_up_host, "up": up, "up-again": up_again, "down": down}

if __name__ == "__main__":
    try:
        ACTIONS[sys.argv[1]]()
    except DeploymentError as failure:
        sys.exit(f"error: {failure}")
