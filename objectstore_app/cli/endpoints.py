"""`objectstore endpoints`: keeps an Envoy's list of pods current from Kubernetes' EndpointSlices.

It lists the slices of one Service, writes what they say as Envoy's ClusterLoadAssignment, and then
watches them; each change is written within milliseconds by renaming a whole file into place, which
is what Envoy watches for. It may do nothing else in the cluster, and holds nothing: what is lost is
listed again.

Kubernetes only says which pods there are. Whether one is well is for Envoy's own health checks,
which are faster and see the way there too: a pod that Kubernetes calls not ready stays in the list,
one that is ending gets no new requests. When no API server answers, and when the Service has no
slices at all, the last file stands.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlencode, urlsplit

import click

from ..core.errors import ObjectStoreError
from ..runtime import logging
from ..runtime.silence import bound_silence

CALL_TIMEOUT_S = 10.0
WATCH_S = 300
PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 5.0
ANSWER_BYTES_MAX = 16 << 20

# In percent, of what is well: one in a hundred takes all.
OVERPROVISIONING = 10_000
TYPE_URL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


class EndpointsError(ObjectStoreError):
    """The API did not answer, or not what it should; the same may succeed later."""

    retryable = True


class Conditions(TypedDict, total=False):
    """What Kubernetes says of an endpoint; missing means unknown."""

    ready: bool | None
    serving: bool | None
    terminating: bool | None


class Endpoint(TypedDict, total=False):
    """A pod: its addresses, of which the first counts, and its conditions."""

    addresses: list[str]
    conditions: Conditions


class Port(TypedDict, total=False):
    """A port of all endpoints of a slice."""

    name: str | None
    port: int | None


class Metadata(TypedDict, total=False):
    """The part of an object's (or a list's) metadata that is used."""

    name: str
    resourceVersion: str


class Slice(TypedDict, total=False):
    """An EndpointSlice, after discovery.k8s.io/v1."""

    metadata: Metadata
    endpoints: list[Endpoint] | None
    ports: list[Port] | None


class Event(TypedDict):
    """One line of a watch."""

    type: str
    object: Slice


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes: a pod's address, and whether it still gets new ones."""

    address: str
    port: int
    draining: bool


@dataclass(slots=True)
class Known:
    """The slices as last heard of, by name, and the version of the whole that they are of."""

    slices: dict[str, Slice] = field(default_factory=dict)
    version: str = ""

    def apply(self, event: Event) -> bool:
        """Take in one event of a watch. False: what is known is too old, list anew."""
        kind, changed = event["type"], event["object"]
        if kind == "ERROR":
            return False
        metadata = changed["metadata"]
        self.version = metadata.get("resourceVersion", self.version)
        if kind == "DELETED":
            self.slices.pop(metadata["name"], None)
        elif kind in ("ADDED", "MODIFIED"):
            self.slices[metadata["name"]] = changed
        return True


def places(slices: Mapping[str, Slice], port_name: str) -> list[Place]:
    """Every pod once, in the order of addresses; one that any slice calls ending is ending."""
    found: dict[tuple[str, int], bool] = {}
    for one in slices.values():
        ports = [
            port["port"]
            for port in one.get("ports") or []
            if port.get("port") and (port.get("name") or "") in (port_name, "")
        ]
        for endpoint in one.get("endpoints") or []:
            draining = bool(endpoint.get("conditions", {}).get("terminating"))
            for address in endpoint.get("addresses", [])[:1]:
                for number in ports:
                    if number is not None:
                        key = (address, number)
                        found[key] = found.get(key, False) or draining
    return [Place(address, port, found[address, port]) for address, port in sorted(found)]


def assignment(cluster: str, found: list[Place]) -> str:
    """The places as the file that Envoy reads (envoy.config.endpoint.v3)."""
    endpoints = [
        {
            "health_status": "DRAINING" if place.draining else "HEALTHY",
            "endpoint": {
                "address": {"socket_address": {"address": place.address, "port_value": place.port}}
            },
        }
        for place in found
    ]
    resource = {
        "@type": TYPE_URL,
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": endpoints}],
        # While one of them is well, those that can only have requests wait get none.
        "policy": {"overprovisioning_factor": OVERPROVISIONING},
    }
    return json.dumps({"resources": [resource]}, indent=1) + "\n"


def write_if_new(path: Path, text: str) -> bool:
    """Put the text there as a whole, by renaming; False when it is there already."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return False
    incoming = path.with_name(f".{path.name}.new")
    incoming.write_text(text)
    incoming.chmod(0o644)
    incoming.replace(path)
    return True


@dataclass(frozen=True, slots=True)
class Api:
    """The EndpointSlices of one Service at an API server, read with a token."""

    url: str
    ca: Path
    token: Path
    namespace: str
    service: str

    def listed(self) -> Known:
        """All slices now. Raises: EndpointsError."""
        with self._answer({}, CALL_TIMEOUT_S) as answer:
            try:
                found = json.loads(answer.read(ANSWER_BYTES_MAX))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise EndpointsError("list the EndpointSlices", self.url, str(error)) from error
        slices = {one["metadata"]["name"]: one for one in found["items"]}
        return Known(slices, found["metadata"]["resourceVersion"])

    def events(self, version: str) -> Iterator[Event]:
        """What changes from that version on, until the server ends the watch.

        Raises: EndpointsError.
        """
        query = {
            "watch": "1",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "allowWatchBookmarks": "true",
        }
        with self._answer(query, WATCH_S + CALL_TIMEOUT_S) as answer:
            while True:
                try:
                    line = answer.readline(ANSWER_BYTES_MAX)
                    if not line:
                        return
                    event: Event = json.loads(line)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise EndpointsError(
                        "watch the EndpointSlices", self.url, str(error)
                    ) from error
                yield event

    @contextlib.contextmanager
    def _answer(
        self, query: Mapping[str, str], timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a GET of the slices. Raises: EndpointsError unless it is 200."""
        parts = urlsplit(self.url)
        selector = {"labelSelector": f"kubernetes.io/service-name={self.service}", **query}
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        connection: http.client.HTTPSConnection | None = None
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            # Authorities of kubeadm lack extensions that strict checks ask for since Python 3.13.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=CALL_TIMEOUT_S, context=context
            )
            connection.connect()
            # A watch may be silent for as long as nothing changes, its peer's machine not.
            bound_silence(connection.sock)
            connection.sock.settimeout(timeout_s)
            token = self.token.read_text().strip()
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            connection.request("GET", f"{path}?{urlencode(selector)}", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise EndpointsError(
                    "ask for the EndpointSlices", self.url, f"answered {answer.status}"
                )
            yield answer
        except (OSError, http.client.HTTPException) as error:
            hint = str(error) or type(error).__name__
            raise EndpointsError("reach the API server", self.url, hint) from error
        finally:
            if connection is not None:
                connection.close()


def follow(api: Api, changed: Callable[[Known], None]) -> None:
    """Call `changed` with what there is, now and after each change, until the watch is over.

    Returns when slices have to be listed anew. Raises: EndpointsError.
    """
    known = api.listed()
    changed(known)
    for event in api.events(known.version):
        if not known.apply(event):
            return
        changed(known)


@click.command(context_settings={"auto_envvar_prefix": "OBJECTSTORE_ENDPOINTS"})
@click.option("--api", required=True, metavar="URL", help="The cluster's API, https://HOST:PORT.")
@click.option("--ca", required=True, type=click.Path(path_type=Path), help="Its authority (PEM).")
@click.option(
    "--token", required=True, type=click.Path(path_type=Path), help="The file with the token."
)
@click.option("--namespace", default="objectstore", show_default=True, help="Of the Service.")
@click.option("--service", default="object-controller", show_default=True, help="Its name.")
@click.option("--port-name", default="s3", show_default=True, help="The port that clients use.")
@click.option("--cluster", default="store", show_default=True, help="Envoy's name for the pods.")
@click.option(
    "--file", "path", required=True, type=click.Path(path_type=Path), help="The file to write."
)
def endpoints(
    api: str,
    ca: Path,
    token: Path,
    namespace: str,
    service: str,
    port_name: str,
    cluster: str,
    path: Path,
) -> None:
    """Keep Envoy's list of pods current from a Service of Kubernetes.

    Runs until it is ended. While no API server answers, the file stays as it is.
    """
    logging.set_up("json", "endpoints")
    source = Api(api, ca, token, namespace, service)

    def changed(known: Known) -> None:
        if not known.slices:
            logging.event("no_slices", service=service)
            return
        found = places(known.slices, port_name)
        if write_if_new(path, assignment(cluster, found)):
            logging.event("endpoints", places=_shown(found), version=known.version)

    pause_s = PAUSE_S_MIN
    while True:
        began = time.monotonic()
        try:
            follow(source, changed)
            pause_s = PAUSE_S_MIN
        except EndpointsError as error:
            logging.event("api_away", reason=str(error))
            well = time.monotonic() - began > PAUSE_S_MAX
            pause_s = PAUSE_S_MIN if well else min(pause_s * 2, PAUSE_S_MAX)
        time.sleep(pause_s)


def _shown(found: list[Place]) -> str:
    return ",".join(f"{p.address}:{p.port}{'(ending)' if p.draining else ''}" for p in found)
