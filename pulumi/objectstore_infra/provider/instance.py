"""Instance: one machine of a store, made, reached over SSH, resized in place, deleted."""

from __future__ import annotations

import io
import time
from typing import ClassVar

import paramiko

from objectstore_infra.errors import SubstrateError
from objectstore_infra.node_image.boot import BootData, render
from objectstore_infra.provider.handler import (
    Context,
    Found,
    Handler,
    Input,
    OnChange,
    Output,
    number,
    text,
)
from objectstore_infra.provider.values import Record
from objectstore_infra.substrates.base import InstanceSpec, Substrate

SSH_TIMEOUT_S = 120.0
# Short: what is sent to a machine before it has its address is lost, and TCP repeats it too late.
CONNECT_TIMEOUT_S = 1.0
SSH_ATTEMPT_TIMEOUT_S = 10.0
SSH_RETRY_S = 0.25
READY_COMMAND = "systemctl is-system-running --wait"
# A unit that failed leaves the machine usable; configuration and validation judge it later.
READY_ANSWERS = ("running", "degraded")


class Instance(Handler):
    """A machine. `ready` is false in the state of one whose creation was interrupted."""

    type_name = "Instance"
    inputs: ClassVar = {
        "name": Input(str),
        "owner": Input(str),
        "image": Input(str, OnChange.NOTHING),
        "network": Input(str),
        "address": Input(str),
        "prefixLength": Input(int),
        "gateway": Input(str),
        "resolver": Input(str),
        "authorizedKey": Input(str),
        "privateKey": Input(str, OnChange.NOTHING, secret=True),
        "vcpu": Input(int, OnChange.UPDATE),
        "coresPerSocket": Input(int, OnChange.UPDATE),
        "memoryMib": Input(int, OnChange.UPDATE),
        "containerHost": Input(bool, OnChange.NOTHING),
        "running": Input(bool, OnChange.UPDATE),
    }
    outputs: ClassVar = {"hostKey": Output(), "ready": Output()}

    def changed(self, state: Record, inputs: Record) -> dict[str, OnChange]:
        """Also replace what an interrupted create left half-made."""
        differing = super().changed(state, inputs)
        return differing if state.get("ready", True) else differing | {"ready": OnChange.REPLACE}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Create, start, and wait until the machine answers over SSH."""
        spec = _spec(inputs)
        try:
            context.substrate.create_instance(spec)
            host_key = wait_for_ssh(text(inputs, "address"), text(inputs, "privateKey"))
        except SubstrateError:
            # The engine keeps nothing of a failed create, so a half-made machine would be lost.
            _delete_half_made(context.substrate, spec)
            raise
        context.substrate.complete_instance(spec.name)
        return spec.name, {"hostKey": host_key, "ready": True}

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """Look at the machine's configuration and whether it runs."""
        actual = context.substrate.read_instance(text(state, "name"))
        if actual is None or actual.owner != state["owner"]:
            return None
        seen: Record = {
            "network": actual.network,
            "vcpu": actual.vcpu,
            "coresPerSocket": actual.cores_per_socket,
            "memoryMib": actual.memory_mib,
            "running": actual.running,
            "ready": actual.complete,
        }
        if actual.complete and actual.running and "hostKey" not in state:
            key = text(state, "privateKey")
            seen["hostKey"] = wait_for_ssh(text(state, "address"), key)
        return Found(actual.name, state | seen)

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Change vCPU and memory of the running machine; start one that was stopped."""
        owner = text(inputs, "owner")
        context.substrate.resize_instance(
            resource_id,
            owner,
            vcpu=number(inputs, "vcpu"),
            cores_per_socket=number(inputs, "coresPerSocket"),
            memory_mib=number(inputs, "memoryMib"),
        )
        context.substrate.start_instance(resource_id, owner)
        host_key = wait_for_ssh(text(inputs, "address"), text(inputs, "privateKey"))
        return {"hostKey": host_key, "ready": True}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Stop and delete the machine with its data."""
        context.substrate.delete_instance(resource_id, text(state, "owner"))


def _delete_half_made(substrate: Substrate, spec: InstanceSpec) -> None:
    state = substrate.read_instance(spec.name)
    if state and state.owner == spec.owner and not state.complete:
        substrate.delete_instance(spec.name, spec.owner)


def _spec(inputs: Record) -> InstanceSpec:
    name = text(inputs, "name")
    boot = BootData(
        hostname=name,
        address=text(inputs, "address"),
        prefix_length=number(inputs, "prefixLength"),
        gateway=text(inputs, "gateway"),
        resolver=text(inputs, "resolver"),
        authorized_key=text(inputs, "authorizedKey"),
    )
    return InstanceSpec(
        name=name,
        owner=text(inputs, "owner"),
        image=text(inputs, "image"),
        network=text(inputs, "network"),
        vcpu=number(inputs, "vcpu"),
        cores_per_socket=number(inputs, "coresPerSocket"),
        memory_mib=number(inputs, "memoryMib"),
        container_host=inputs["containerHost"] is True,
        boot_script=render(boot),
    )


def wait_for_ssh(address: str, private_key: str, timeout_s: float = SSH_TIMEOUT_S) -> str:
    """Return the machine's host key, `ssh-ed25519 …`, once it has booted and lets us in.

    Raises SubstrateError with the last obstacle when the time is over.
    """
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(private_key))
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return _boot_state(address, key, deadline)
        except (OSError, paramiko.SSHException) as obstacle:
            if time.monotonic() > deadline:
                raise SubstrateError(
                    f"{address} does not answer over SSH after {timeout_s:.0f} s: {obstacle}",
                    hint="`incus console --show-log NAME` shows how far its boot came",
                ) from obstacle
        time.sleep(SSH_RETRY_S)


def _boot_state(address: str, key: paramiko.PKey, deadline: float) -> str:
    client = paramiko.SSHClient()
    first_contact = paramiko.AutoAddPolicy()
    client.set_missing_host_key_policy(first_contact)
    try:
        client.connect(
            address,
            username="root",
            pkey=key,
            timeout=CONNECT_TIMEOUT_S,
            banner_timeout=SSH_ATTEMPT_TIMEOUT_S,
            auth_timeout=SSH_ATTEMPT_TIMEOUT_S,
            allow_agent=False,
            look_for_keys=False,
        )
        remaining_s = max(1.0, deadline - time.monotonic())
        _, output, _ = client.exec_command(READY_COMMAND, timeout=remaining_s)
        answer = output.read().decode().strip()
        if answer not in READY_ANSWERS:
            raise paramiko.SSHException(f"the machine says it is {answer!r}")
        transport = client.get_transport()
        if transport is None:
            raise paramiko.SSHException("the connection ended")
        host_key = transport.get_remote_server_key()
        return f"{host_key.get_name()} {host_key.get_base64()}"
    finally:
        client.close()
