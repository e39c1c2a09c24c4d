"""`objectstore hung`: ends an Envoy's connections to front ends that hang or are cut off.

A process that stands still keeps its connections, its kernel answers for it: what was sent to it
before waits until the client gives up. Envoy sends it nothing new once its health checks say so,
and ends nothing. So this looks at what Envoy says, twice a second, and has the kernel end the
connections to who answers no health check at all: reads are then repeated elsewhere, and the client
hears at once of other requests that their outcome is unknown. The same is done with who says that
requests wait there, while it says so and others serve: it is cut off from the store.

Whoever answers that it is not ready, as one does that ends in good order, keeps its connections.
So does everybody while nobody is well: then it is rather this machine that is slow, or all wait for
the same.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

import click

from ..core.errors import ObjectStoreError
from ..runtime import logging

LOOK_S = 0.5
ANSWER_S_MAX = 2.0
# From Envoy's verdict on, which takes it about three seconds. When what all waited for is back,
# they say so within one of Envoy's health checks.
HUNG_S = 1.5
CUT_OFF_S = 2.0
AGAIN_S = 5.0
END_S_MAX = 5.0
SS = "/usr/bin/ss"

Place = tuple[str, int]
"""Address and port."""

Verdict = Literal["well", "waits", "hangs", "refuses", "ends"]
"""Who ends does so in good order, and Kubernetes sees to it that it does."""


class AdminError(ObjectStoreError):
    """Envoy's administration did not answer, or not what it should."""

    retryable = True


class SocketAddress(TypedDict):
    """Of envoy.config.core.v3."""

    address: str
    port_value: int


class HostAddress(TypedDict):
    """A front end's."""

    socket_address: SocketAddress


class Health(TypedDict, total=False):
    """What is false is left out."""

    eds_health_status: str
    failed_active_health_check: bool
    failed_active_degraded_check: bool
    active_hc_timeout: bool


class Host(TypedDict):
    """A front end as Envoy's page `/clusters` has it (envoy.admin.v3.HostStatus)."""

    address: HostAddress
    health_status: Health


class Cluster(TypedDict, total=False):
    """Envoy leaves the list out where it is empty."""

    name: str
    host_statuses: list[Host]


def verdicts(clusters: list[Cluster], name: str) -> dict[Place, Verdict]:
    """What Envoy thinks of each front end."""
    return {
        (told["address"], told["port_value"]): _verdict(host["health_status"])
        for cluster in clusters
        if cluster["name"] == name
        for host in cluster.get("host_statuses", [])
        for told in [host["address"]["socket_address"]]
    }


def _verdict(health: Health) -> Verdict:
    if health.get("eds_health_status") == "DRAINING":
        return "ends"
    if not health.get("failed_active_health_check", False):
        return "waits" if health.get("failed_active_degraded_check", False) else "well"
    return "hangs" if health.get("active_hc_timeout", False) else "refuses"


@dataclass(slots=True)
class Watch:
    """Since when who hangs or waits alone, and when their connections were ended last."""

    _hangs: dict[Place, float] = field(default_factory=dict)
    _waits: dict[Place, float] = field(default_factory=dict)
    _ended: dict[Place, float] = field(default_factory=dict)

    def due(self, found: Mapping[Place, Verdict], now: float) -> list[Place]:
        """Those whose connections are to be ended now."""
        others_serve = "well" in found.values()
        # A machine that is gone cannot be reached after a while, which is no better.
        self._hangs = {
            place: self._hangs.get(place, now)
            for place, verdict in found.items()
            if verdict == "hangs" or (verdict == "refuses" and place in self._hangs)
        }
        self._waits = {
            place: self._waits.get(place, now)
            for place, verdict in found.items()
            if verdict == "waits" and others_serve
        }
        self._ended = {place: at for place, at in self._ended.items() if now - at < AGAIN_S}
        due = [place for place, since in self._hangs.items() if now - since >= HUNG_S]
        due += [place for place, since in self._waits.items() if now - since >= CUT_OFF_S]
        due = [place for place in due if others_serve and place not in self._ended]
        self._ended |= dict.fromkeys(due, now)
        return due


def look(admin: Path) -> list[Cluster]:
    """Envoy's page `/clusters`. Raises: AdminError."""
    connection = http.client.HTTPConnection("envoy")
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(ANSWER_S_MAX)
        connection.sock.connect(str(admin))
        connection.request("GET", "/clusters?format=json")
        found: list[Cluster] = json.loads(connection.getresponse().read())["cluster_statuses"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        hint = str(error) or type(error).__name__
        raise AdminError("ask Envoy", str(admin), hint) from error
    finally:
        connection.close()
    return found


def end_connections(place: Place) -> int:
    """Have the kernel end all connections to a place; how many there were. Needs CAP_NET_ADMIN."""
    address, port = place
    filters = ["dst", address, "dport", "=", f":{port}"]
    done = subprocess.run(
        [SS, "--kill", "--no-header", "--numeric", "--tcp", "state", "connected", *filters],
        check=False,
        capture_output=True,
        text=True,
        timeout=END_S_MAX,
    )
    if done.returncode:
        raise AdminError("end connections", f"{address}:{port}", done.stderr.strip())
    return len(done.stdout.splitlines())


@click.command(context_settings={"auto_envvar_prefix": "OBJECTSTORE_HUNG"})
@click.option(
    "--admin", required=True, type=click.Path(path_type=Path), help="Envoy's administration."
)
@click.option("--cluster", default="store", show_default=True, help="Envoy's name for the pods.")
def hung(admin: Path, cluster: str) -> None:
    """End an Envoy's connections to front ends that hang or are cut off.

    Runs until it is ended, with the right to end connections (CAP_NET_ADMIN).
    """
    logging.set_up("json", "hung")
    watch, complaint = Watch(), ""
    while True:
        try:
            for place in watch.due(verdicts(look(admin), cluster), time.monotonic()):
                ended = end_connections(place)
                logging.event("ended", place=f"{place[0]}:{place[1]}", connections=ended)
            complaint = ""
        except (AdminError, subprocess.TimeoutExpired) as error:
            if str(error) != complaint:
                complaint = str(error)
                logging.event("envoy_away", reason=complaint)
        time.sleep(LOOK_S)
