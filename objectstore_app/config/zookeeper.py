"""Coordination (`coordination.py`) in ZooKeeper, through kazoo.

    ROOT/config          the store's identity                        JSON
    ROOT/map             the shard map                               JSON
    ROOT/pods/POD        a pod's registration, ephemeral             JSON
    ROOT/plans/SHARD     who should have the shard, and who is next  JSON
    ROOT/claims/SHARD    the pod that may try to take it, ephemeral  its name

Theory of operation. What is read is watched: ZooKeeper tells once that it changed, then all is read
anew. Changes of what several pods write (plans, map) name the version that was read. Calls are
bounded; one that was given up may still be done later, so callers look again and never count.

A claim is a node of its own each time, and the version of every new node is 0: by that nobody could
tell a claim from the one that took its place. So each change of the claims names the version of
their folder, and raises it.

The servers' certificates are checked against the store's own authority and no other: kazoo itself
would trust those of the system, too. Certificates are read for each connection.

Registration and claims are a session's. A pod that is started again finds those of its earlier life
until that session has expired, and takes their place: nobody else bears its name.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.states import WatchedEvent, ZnodeStat
from kazoo.retry import KazooRetry

from ..runtime.silence import bound_silence
from .coordination import Claim, Identity, Plan, PodRecord, Seen
from .errors import CoordinationError, IdentityError
from .service import ClusterTls, ZooKeeperSettings
from .shard_map import ShardMap, ShardOwner, decode_map, encode_map

if TYPE_CHECKING:
    from kazoo.client import AsyncResult  # only its stub has it, generic

ANSWER_S_MAX = 2.0
CONNECT_S_MAX = 1.0
RECONNECT_S_MAX = 0.5
ATTEMPTS_MAX = 5
_FOLDERS = ("pods", "plans", "claims")

_Value = TypeVar("_Value")
# What it would say of its connection, callers say in our form.
_SILENT = logging.Logger("kazoo", logging.CRITICAL)


class _Handler(SequentialThreadingHandler):
    """Makes kazoo's connections."""

    def __init__(self, tls: ClusterTls | None) -> None:
        super().__init__()
        self._tls = tls

    def create_connection(
        self, *, address: tuple[str, int], timeout: float, **_: object
    ) -> socket.socket:
        """Raises OSError. `timeout` is the session's: a machine that takes no connection is given
        up sooner, for there are others; a server may need longer until it speaks.
        """
        plain = socket.create_connection(address, min(timeout, CONNECT_S_MAX))
        try:
            plain.settimeout(timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            bound_silence(plain)
            return plain if self._tls is None else _context(self._tls).wrap_socket(plain)
        except OSError:
            plain.close()
            raise


def _context(tls: ClusterTls) -> ssl.SSLContext:
    """Names are not compared, for servers are known by address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(tls.ca)
    context.load_cert_chain(tls.certificate, tls.key)
    return context


class ZooKeeper:
    """A pod's session. Several threads may call it."""

    def __init__(self, settings: ZooKeeperSettings, pod: str) -> None:
        self._root = settings.root
        self._pod = pod
        self._changed: Callable[[], None] = lambda: None
        self._prepared = False
        self._client = KazooClient(
            hosts=",".join(str(host) for host in settings.hosts),
            timeout=settings.session_s,
            handler=_Handler(settings.tls),
            logger=_SILENT,
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=RECONNECT_S_MAX),
        )

    def start(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._client.add_listener(lambda _: changed())
        self._client.start_async()

    def close(self) -> None:
        self._client.stop()
        self._client.close()

    def settle(self, identity: Identity) -> None:
        self._prepare()
        path = f"{self._root}/config"
        self._create(path, msgspec.json.encode(identity))
        content, _ = self._get(path)
        known = _decode(content, Identity, path)
        if known != identity:
            raise IdentityError("settle store", path, f"there it is {known}, here {identity}")

    def register(self, record: PodRecord) -> None:
        self._prepare()
        path = f"{self._root}/pods/{self._pod}"
        content = msgspec.json.encode(record)
        for _ in range(ATTEMPTS_MAX):
            if self._create(path, content, ephemeral=True):
                return
            with suppress(NoNodeError, BadVersionError):
                _, stat = self._get(path)
                if self._is_current(stat):
                    self._wait("register", self._client.set_async(path, content))
                    return
                self._wait("register", self._client.delete_async(path, stat.version))
        raise CoordinationError("register", path, "another pod of this name does so, too")

    def look(self, shards: Sequence[str]) -> Seen:
        self._prepare()
        root = self._root
        asked = {
            folder: self._client.get_children_async(f"{root}/{folder}", watch=self._fired)
            for folder in _FOLDERS
        }
        asked_map = self._client.get_async(f"{root}/map", watch=self._fired)
        names = {folder: sorted(self._own("look", one)) for folder, one in asked.items()}
        pods = self._get_all("pods", names["pods"])
        plans = self._get_all("plans", [name for name in names["plans"] if name in shards])
        claims = self._get_all("claims", [name for name in names["claims"] if name in shards])
        content, _ = self._own("look", asked_map)
        return Seen(
            pods={
                name: msgspec.structs.replace(
                    _decode(content, PodRecord, f"{root}/pods/{name}"), since=stat.czxid
                )
                for name, (content, stat) in pods.items()
            },
            plans={
                name: _decode(content, Plan, f"{root}/plans/{name}")
                for name, (content, _) in plans.items()
            },
            versions={shard: plans[shard][1].version if shard in plans else -1 for shard in shards},
            claims={
                name: Claim(content.decode(), self._is_current(stat))
                for name, (content, stat) in claims.items()
            },
            shard_map=decode_map(content, f"{root}/map"),
        )

    def read_map(self) -> ShardMap:
        self._prepare()
        path = f"{self._root}/map"
        content, _ = self._own("read map", self._client.get_async(path, watch=self._fired))
        return decode_map(content, path)

    def claim(self, shard: str, over: str = "") -> bool:
        self._prepare()
        for _ in range(ATTEMPTS_MAX):
            turn, found = self._claim_of(shard)
            if found is not None:
                if found.pod not in (self._pod, over):
                    return False
                if found.pod == self._pod and found.current:
                    return True
            if self._change_claim(shard, turn, remove=found is not None, make=True):
                return True
        return False

    def unclaim(self, shard: str) -> None:
        for _ in range(ATTEMPTS_MAX):
            turn, found = self._claim_of(shard)
            if found is None or found.pod != self._pod:
                return
            if self._change_claim(shard, turn, remove=True, make=False):
                return

    def plan(self, shard: str, plan: Plan, version: int) -> bool:
        self._prepare()
        path = f"{self._root}/plans/{shard}"
        content = msgspec.json.encode(plan)
        if version < 0:
            return self._create(path, content)
        try:
            self._wait("plan", self._client.set_async(path, content, version))
        except (BadVersionError, NoNodeError):
            return False
        return True

    def publish(self, shard: str, owner: ShardOwner) -> None:
        self._prepare()
        path = f"{self._root}/map"
        for _ in range(ATTEMPTS_MAX):
            content, stat = self._own("publish", self._client.get_async(path))
            known = decode_map(content, path)
            told = known.with_owner(shard, owner)
            if told is known:
                return
            with suppress(BadVersionError):
                self._wait("publish", self._client.set_async(path, encode_map(told), stat.version))
                return
        raise CoordinationError("publish", shard, "others change the map all the time")

    # --- helpers ---

    def _prepare(self) -> None:
        """Make what every store has there."""
        if self._prepared:
            return
        for folder in _FOLDERS:
            self._create(f"{self._root}/{folder}", b"", makepath=True)
        self._create(f"{self._root}/map", encode_map(ShardMap()))
        self._prepared = True

    def _claim_of(self, shard: str) -> tuple[int, Claim | None]:
        """A shard's claim, and the version that the folder had before it was looked for."""
        folder = f"{self._root}/claims"
        asked_folder = self._client.get_async(folder)
        asked = self._client.get_async(f"{folder}/{shard}")
        _, turn = self._own("claim", asked_folder)
        try:
            content, stat = self._wait("claim", asked)
        except NoNodeError:
            return turn.version, None
        return turn.version, Claim(content.decode(), self._is_current(stat))

    def _change_claim(self, shard: str, turn: int, *, remove: bool, make: bool) -> bool:
        """Whether it was done: not if any claim has changed since that version."""
        folder = f"{self._root}/claims"
        steps = self._client.transaction()
        steps.set_data(folder, b"", turn)
        if remove:
            steps.delete(f"{folder}/{shard}")
        if make:
            steps.create(f"{folder}/{shard}", self._pod.encode(), ephemeral=True)
        done = self._wait("claim", steps.commit_async())
        return not any(isinstance(one, Exception) for one in done)

    def _fired(self, _: WatchedEvent) -> None:
        self._changed()

    def _is_current(self, stat: ZnodeStat) -> bool:
        identity = self._client.client_id
        return identity is not None and stat.ephemeralOwner == identity[0]

    def _create(
        self, path: str, content: bytes, *, ephemeral: bool = False, makepath: bool = False
    ) -> bool:
        """False when it is there."""
        try:
            self._own(
                "create",
                self._client.create_async(path, content, ephemeral=ephemeral, makepath=makepath),
            )
        except NodeExistsError:
            return False
        return True

    def _own(self, operation: str, asked: AsyncResult[_Value]) -> _Value:
        """What needs the store's own folders. Raises as `_wait`, but no NoNodeError."""
        try:
            return self._wait(operation, asked)
        except NoNodeError as error:
            self._prepared = False
            raise CoordinationError(operation, self._root, "it was removed") from error

    def _get(self, path: str) -> tuple[bytes, ZnodeStat]:
        return self._wait("get", self._client.get_async(path))

    def _get_all(self, folder: str, names: Sequence[str]) -> dict[str, tuple[bytes, ZnodeStat]]:
        """What lies in a folder below these names, all asked at once; without what went away."""
        asked = {
            name: self._client.get_async(f"{self._root}/{folder}/{name}", watch=self._fired)
            for name in names
        }
        found = {}
        for name, one in asked.items():
            with suppress(NoNodeError):
                found[name] = self._wait("look", one)
        return found

    def _wait(self, operation: str, asked: AsyncResult[_Value]) -> _Value:
        """Raises NoNodeError, NodeExistsError, BadVersionError, CoordinationError."""
        if not self._client.connected:
            raise CoordinationError(operation, self._root, "no connection to ZooKeeper")
        try:
            return asked.get(timeout=ANSWER_S_MAX)
        except (NoNodeError, NodeExistsError, BadVersionError):
            raise
        except KazooTimeoutError as error:
            raise CoordinationError(operation, self._root, "no answer in time") from error
        except KazooException as error:
            said = str(error) or type(error).__name__
            raise CoordinationError(operation, self._root, said) from error


def _decode(content: bytes, kind: type[_Value], path: str) -> _Value:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise CoordinationError("read", path, str(error)) from error
