"""One cluster's API, over the official client's transport: apply, read, delete, list.

The client's generated models are not used: objects are plain JSON here, as the program declared
them. An API server that is away for a moment (its address moves to another node) is tried again for
`UNREACHABLE_S`; all requests may be repeated, for an apply says what should be, not what to do.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3
import yaml
from kubernetes import client

from objectstore_infra.errors import InfraError
from objectstore_infra.provider.kubernetes.kinds import EVENTS, PODS, Kind, object_id

APPLY = "application/apply-patch+yaml"
REQUEST_TIMEOUT_S = 30.0
UNREACHABLE_S = 60.0
RETRY_PAUSE_S = 1.0
# The address of the API moves, the server behind it starts, etcd elects a leader: not yet failures.
TRANSIENT = frozenset({0, 429, 502, 503, 504})
ETCD_FAILED = b"etcdserver"
# An API server that has just started refuses everybody until it has read the roles.
ROLES_UNREAD = re.compile(rb"RBAC: .*not found")
CONNECTIONS = 16
_PARTS = ("clusters", "contexts", "users")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Object = dict[str, Json]


class ClusterError(InfraError):
    """The cluster refused or failed; its own text is kept. `status` is HTTP's, 0 without one."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        self.status = status
        super().__init__(message, hint=hint)


class UnreachableError(ClusterError):
    """Nothing answers at the cluster's address."""


class FieldConflictError(ClusterError):
    """Fields of an object belong to another manager, so that an apply would take them away."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where a cluster's API is and who we are there."""

    server: str
    context: ssl.SSLContext | None
    """None for an address without TLS, which only tests have."""
    token: str = ""

    @classmethod
    def from_kubeconfig(cls, text: str) -> Access:
        """Read the current context of a kubeconfig that carries its certificates with it.

        Raises ClusterError naming what is missing. The key never reaches a disk.
        """
        try:
            config = yaml.safe_load(text)
            named = {kind: {row["name"]: row[kind[:-1]] for row in config[kind]} for kind in _PARTS}
            context = named["contexts"][config["current-context"]]
            cluster, user = named["clusters"][context["cluster"]], named["users"][context["user"]]
            server = str(cluster["server"])
        except (KeyError, TypeError, yaml.YAMLError) as cause:
            raise ClusterError(f"the kubeconfig cannot be used: {cause!r}") from cause
        if not server.startswith("https://"):
            return cls(server, None, str(user.get("token") or ""))
        try:
            tls = ssl.create_default_context(cadata=_decoded(cluster, "certificate-authority-data"))
            # Python 3.13 is stricter than Kubernetes' own authority, which names no key of its own.
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if "client-certificate-data" in user:
                _load_certificate(tls, user)
        except (KeyError, ValueError, ssl.SSLError) as cause:
            raise ClusterError(f"the kubeconfig's certificates cannot be used: {cause}") from cause
        return cls(server, tls, str(user.get("token") or ""))


class Cluster:
    """The API of one cluster; usable from several threads."""

    def __init__(self, access: Access, *, unreachable_s: float = UNREACHABLE_S) -> None:
        configuration = client.Configuration(host=access.server)
        if access.token:
            configuration.api_key["authorization"] = f"Bearer {access.token}"
        self._client = client.ApiClient(configuration)
        self._client.rest_client.pool_manager = urllib3.PoolManager(
            maxsize=CONNECTIONS, ssl_context=access.context, retries=False
        )
        self._server = access.server
        self._unreachable_s = unreachable_s
        self._gave_up = False

    def apply(
        self, kind: Kind, wanted: Object, manager: str, *, force: bool = False, dry: bool = False
    ) -> Object:
        """Apply on the server under the manager's name; returns the object as it is then.

        `dry` only asks what it would be. Raises FieldConflictError, unless forced.
        """
        namespace, name = object_id(kind, wanted)
        query = {"fieldManager": manager, "force": str(force).lower()}
        query |= {"dryRun": "All"} if dry else {}
        return self._request("PATCH", kind.path(namespace, name), query, wanted)

    def read(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return the object, or None when there is none."""
        try:
            return self._request("GET", kind.path(namespace, name))
        except ClusterError as refused:
            if refused.status == 404:
                return None
            raise

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Ask for the object's end, and first for that of what it owns; none is fine."""
        # In the foreground only where something is owned: it takes a round of the collector.
        policy = "Foreground" if kind.owns_pods else "Background"
        try:
            self._request("DELETE", kind.path(namespace, name), body={"propagationPolicy": policy})
        except ClusterError as refused:
            if refused.status != 404:
                raise

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """Return the pods with all of these labels."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        return self._items(PODS, namespace, {"labelSelector": selector})

    def warnings(self, namespace: str) -> list[Object]:
        """Return the namespace's events that warn."""
        return self._items(EVENTS, namespace, {"fieldSelector": "type=Warning"})

    def _items(self, kind: Kind, namespace: str, query: Mapping[str, str]) -> list[Object]:
        items = self._request("GET", kind.path(namespace), query).get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
    ) -> Object:
        # Who waited once in vain has waited for all.
        deadline = time.monotonic() + (0.0 if self._gave_up else self._unreachable_s)
        while True:
            try:
                text = self._send(method, path, query or {}, body)
            except client.ApiException as refused:
                late = time.monotonic() > deadline
                if not refused.status and late:  # what the client makes of a failed handshake
                    raise self._unreachable(refused.reason) from refused
                if late or not _is_transient(refused):
                    raise _refusal(path, refused) from refused
            except urllib3.exceptions.HTTPError as away:
                if time.monotonic() > deadline:
                    raise self._unreachable(away) from away
            else:
                self._gave_up = False
                return _parsed(text)
            time.sleep(RETRY_PAUSE_S)

    def _unreachable(self, why: object) -> UnreachableError:
        self._gave_up = True
        return UnreachableError(
            f"Kubernetes does not answer at {self._server}: {str(why).strip()}",
            hint="do the store's machines run? `objectstore status` says what is wrong",
        )

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Object | None) -> bytes:
        content = APPLY if method == "PATCH" else "application/json"
        answer = self._client.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=False,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
        return bytes(answer.data)


def _is_transient(refused: client.ApiException) -> bool:
    said = refused.body or b""
    if isinstance(said, str):
        said = said.encode()
    return (
        refused.status in TRANSIENT
        or (refused.status == 500 and ETCD_FAILED in said)
        or (refused.status == 403 and ROLES_UNREAD.search(said) is not None)
    )


def _refusal(path: str, refused: client.ApiException) -> ClusterError:
    subject = path.partition("/namespaces/")[2] or path.rpartition("/")[2]
    status, said = int(refused.status), _parsed(refused.body or b"")
    if conflicts := _conflicts(said):
        return FieldConflictError(
            f"{subject}: others manage what the program says:\n    " + "\n    ".join(conflicts),
            status=status,
            hint="take it back with PULUMI_K8S_ENABLE_PATCH_FORCE=true, or let the program say"
            " nothing about it",
        )
    message = str(said.get("message") or refused.body or f"HTTP {status} {refused.reason}")
    return ClusterError(f"{subject}: {message}", status=status)


def _decoded(part: Mapping[str, str], key: str) -> str:
    return base64.b64decode(part[key]).decode()


def _load_certificate(context: ssl.SSLContext, user: Mapping[str, str]) -> None:
    # `ssl` reads certificates from files only; this one lies in memory and has no name.
    file = os.memfd_create("client-certificate")
    try:
        text = _decoded(user, "client-certificate-data") + "\n" + _decoded(user, "client-key-data")
        os.write(file, text.encode())
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _parsed(text: bytes | str) -> Object:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _conflicts(said: Object) -> list[str]:
    details = said.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [
        f"{cause.get('field')}: {cause.get('message')}"
        for cause in (causes if isinstance(causes, list) else [])
        if isinstance(cause, dict) and cause.get("reason") == "FieldManagerConflict"
    ]
