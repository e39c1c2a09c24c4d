"""Objects of a RADOS pool: the few operations that the media need, typed, with our errors.

Theory of operation. Every write is one RADOS operation: the primary OSD does all of its steps or
none, and answers when all replicas have them on their disks. A *guard* is a comparison in front of
the steps; when it does not hold, nothing is done and `GuardError` says so. Writes name their
offset, so one that is sent twice (a lost connection, a new primary) changes nothing the second
time.

Calls block, without holding the interpreter's lock, for as long as the pool cannot take a write: an
operation that was given up would have an outcome that nobody knows. Connect after a fork.
"""

from __future__ import annotations

import asyncio
import errno
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import rados

from ...core.limits import MIB, RADOS_CONNECT_S_MAX, RADOS_LOOK_S_MAX
from ...runtime.logging import event
from ..errors import MediaError, MediaFailedError, MediaFullError
from .objects import GuardError

READ_BYTES_MAX = 8 * MIB
_CLEAN = frozenset(("active+clean", "active+clean+scrubbing", "active+clean+scrubbing+deep"))
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# The binding tells a comparison that failed at offset N by the number 4095 + N, and has a class
# for all of them but the first.
_MISMATCH = 4095
_ZERO_GUARD_BYTES = 8


class Cluster:
    """A connection to Ceph, shared by the pools that are opened over it."""

    def __init__(self, conf: Path, client: str) -> None:
        """By Ceph's configuration file, as `client.NAME`. Raises MediaFailedError."""
        # No socket of the client: several of our processes use one name.
        settings = {
            "admin_socket": "",
            "client_mount_timeout": str(RADOS_CONNECT_S_MAX),
            "rados_mon_op_timeout": str(RADOS_LOOK_S_MAX),
        }
        self._free_heard: dict[str, int] = {}
        try:
            self._rados = rados.Rados(conffile=str(conf), name=client, conf=settings)
            self._rados.connect(timeout=RADOS_CONNECT_S_MAX)
        except rados.Error as error:
            raise MediaFailedError("connect to Ceph", str(conf), str(error)) from error

    def pool(self, name: str, namespace: str) -> Pool:
        """A pool, seen through a namespace. Raises MediaFailedError."""
        try:
            ioctx = self._rados.open_ioctx(name)
        except rados.Error as error:
            raise MediaFailedError("open pool", name, str(error)) from error
        ioctx.set_namespace(namespace)
        # A full pool answers at once; without this, writes would wait for room.
        ioctx.set_osdmap_full_try()
        return Pool(ioctx, f"{name}/{namespace}", partial(self._free_bytes, name))

    def is_clean(self) -> bool:
        """Whether every placement group has all its replicas. Raises MediaFailedError."""
        question = {"prefix": "status", "format": "json"}
        try:
            status = msgspec.json.decode(
                self._ask("ask for health", "Ceph", question), type=_Status
            )
        except msgspec.MsgspecError as error:
            raise MediaFailedError("ask for health", "Ceph", str(error)) from error
        states = status.pgmap.pgs_by_state
        return bool(states) and all(one.state_name in _CLEAN for one in states)

    def close(self) -> None:
        self._rados.shutdown()

    def _free_bytes(self, pool: str) -> int:
        """What the pool takes before its fullest OSD is full, as Ceph reckons it: replicas counted,
        its own reserve left alone. (An OSD that is really full does not live on.) Seconds old, and
        what was heard last while the monitors are not to be asked: OSDs do without them.
        """
        try:
            self._free_heard[pool] = self._ask_free_bytes(pool)
        except MediaFailedError as error:
            if pool not in self._free_heard:
                raise
            event("room_unknown", pool=pool, reason=str(error))
        return self._free_heard[pool]

    def _ask_free_bytes(self, pool: str) -> int:
        answer = self._ask("look for room", pool, {"prefix": "df", "format": "json"})
        try:
            pools = msgspec.json.decode(answer, type=_Usage).pools
        except msgspec.MsgspecError as error:
            raise MediaFailedError("look for room", pool, str(error)) from error
        return next((one.stats.max_avail for one in pools if one.name == pool), 0)

    def _ask(self, operation: str, subject: str, question: dict[str, str]) -> bytes:
        """A question to the monitors. Raises MediaFailedError."""
        try:
            code, answer, said = self._rados.mon_command(json.dumps(question), b"")
        except rados.Error as error:
            raise MediaFailedError(operation, subject, str(error)) from error
        if code:
            raise MediaFailedError(operation, subject, said)
        return answer


class _State(msgspec.Struct):
    state_name: str


class _Groups(msgspec.Struct):
    pgs_by_state: list[_State] = []


class _Status(msgspec.Struct):
    pgmap: _Groups


class _PoolStats(msgspec.Struct):
    max_avail: int


class _PoolUsage(msgspec.Struct):
    name: str
    stats: _PoolStats


class _Usage(msgspec.Struct):
    pools: list[_PoolUsage]


class Pool:
    """`Objects` on RADOS, and what chunks need besides. Several threads may call it."""

    def __init__(self, ioctx: rados.Ioctx, name: str, free_bytes: Callable[[], int]) -> None:
        self._ioctx = ioctx
        self._name = name
        self._zero_swaps: bool | None = None
        self.free_bytes = free_bytes

    def create(self, name: str, content: bytes) -> bool:
        """Make an object that must not exist; false when it does."""
        with rados.WriteOpCtx() as operation:
            operation.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
            operation.write(content, 0)
            try:
                self._ioctx.operate_write_op(operation, name)
            except rados.ObjectExists:
                return False
            except rados.Error as error:
                raise self._translate("create", name, error) from error
        return True

    def write_if(
        self, name: str, guard: bytes, guard_offset: int, data: bytes, offset: int
    ) -> None:
        """Write when the object holds the guard. Raises GuardError, MediaFullError."""
        with rados.WriteOpCtx() as operation:
            operation.cmpext(guard, guard_offset)
            operation.write(data, offset)
            self._operate("write", name, operation)

    def replace_if(self, name: str, guard: bytes, guard_offset: int, content: bytes) -> None:
        """Put the content in the place of an object that holds the guard. Raises GuardError."""
        with rados.WriteOpCtx() as operation:
            operation.cmpext(guard, guard_offset)
            operation.write_full(content)
            self._operate("replace", name, operation)

    def put(self, name: str, content: bytes) -> None:
        """Write a whole object, whatever was there."""
        with rados.WriteOpCtx() as operation:
            operation.write_full(content)
            self._operate("write", name, operation)

    def zero(
        self, name: str, ranges: list[tuple[int, int]], attribute: str, content: bytes
    ) -> None:
        """Give back the room of the ranges (start, end): they read as zeros, offsets stay; at
        the object's end it gets shorter. The object's attribute is set in the same operation.

        Raises GuardError when the object is gone: nothing is made in its place.
        """
        begin = self.read(name, 0, _ZERO_GUARD_BYTES)
        if not begin:
            raise GuardError("zero", f"{self._name}/{name}", "it is gone")
        with rados.WriteOpCtx() as operation:
            operation.cmpext(begin, 0)
            for start, end in ranges:
                operation.zero(*self._zero_arguments(start, end - start))
            operation.set_xattr(attribute, content)
            self._operate("zero", name, operation)

    def remove(self, name: str) -> None:
        """Remove an object that may be gone already."""
        with rados.WriteOpCtx() as operation:
            operation.remove()
            try:
                self._ioctx.operate_write_op(operation, name)
            except rados.ObjectNotFound:
                return
            except rados.Error as error:
                raise self._translate("remove", name, error) from error

    def _zero_arguments(self, offset: int, length: int) -> tuple[int, int]:
        """Versions of the binding hand these two over in the wrong order, and would zero something
        else: which this one does is tried out before the first time.
        """
        if self._zero_swaps is None:
            name, content = f"probe/{secrets.token_hex(8)}", b"abcd"
            self.put(name, content)
            with rados.WriteOpCtx() as operation:
                operation.zero(1, 2)
                self._operate("zero", name, operation)
            found = self.read(name, 0, len(content))
            self.remove(name)
            if found not in (b"a\0\0d", b"ab\0d"):
                raise MediaFailedError("zero", f"{self._name}/{name}", f"it made {found!r}")
            self._zero_swaps = found == b"ab\0d"
        return (length, offset) if self._zero_swaps else (offset, length)

    def attribute(self, name: str, attribute: str) -> bytes | None:
        """An attribute's content; None when it was not set, or there is no such object."""
        try:
            return self._ioctx.get_xattr(name, attribute)
        except (rados.ObjectNotFound, rados.NoData):
            return None
        except rados.Error as error:
            raise self._translate("read", name, error) from error

    def size(self, name: str) -> int | None:
        """None when there is no such object."""
        try:
            return self._ioctx.stat(name)[0]
        except rados.ObjectNotFound:
            return None
        except rados.Error as error:
            raise self._translate("look for", name, error) from error

    def read(self, name: str, offset: int, length: int) -> bytes | None:
        """What the object has of these bytes; None when there is no such object."""
        try:
            first = self._ioctx.read(name, min(length, READ_BYTES_MAX), offset)
            if len(first) < READ_BYTES_MAX or length <= READ_BYTES_MAX:
                return first
            pieces, done = [first], len(first)
            while done < length:
                piece = self._ioctx.read(name, min(length - done, READ_BYTES_MAX), offset + done)
                if not piece:
                    break
                pieces.append(piece)
                done += len(piece)
            return b"".join(pieces)
        except rados.ObjectNotFound:
            return None
        except rados.Error as error:
            raise self._translate("read", name, error) from error

    def names(self) -> Iterator[str]:
        """Of all objects, in no order."""
        return (one.key for one in self._ioctx.list_objects())

    def start_write(
        self, name: str, data: bytes, offset: int, done: Callable[[MediaError | None], None]
    ) -> None:
        """Begin to write; `done` learns, in a thread of librados, what became of it."""

        def complete(completion: rados.Completion) -> None:
            code = completion.get_return_value()
            done(None if code >= 0 else self._error_of("write", name, -code))

        try:
            self._ioctx.aio_write(name, data, offset, complete)
        except rados.Error as error:
            raise self._translate("write", name, error) from error

    async def read_async(self, name: str, offset: int, length: int) -> bytes | None:
        """As `read`, of at most READ_BYTES_MAX."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | None] = loop.create_future()

        def settle(code: int, data: bytes | None) -> None:
            if answer.done():
                return
            if code >= 0:
                # Past the end the binding hands over a buffer that it never filled.
                answer.set_result((data or b"")[:code])
            elif code == -errno.ENOENT:
                answer.set_result(None)
            else:
                answer.set_exception(self._error_of("read", name, -code))

        def complete(completion: rados.Completion, data: bytes | None) -> None:
            with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(settle, completion.get_return_value(), data)

        try:
            self._ioctx.aio_read(name, length, offset, complete)
        except rados.Error as error:
            raise self._translate("read", name, error) from error
        return await answer

    def close(self) -> None:
        self._ioctx.close()

    def _operate(self, verb: str, name: str, operation: rados.WriteOp) -> None:
        try:
            self._ioctx.operate_write_op(operation, name)
        except rados.Error as error:
            raise self._translate(verb, name, error) from error

    def _translate(self, verb: str, name: str, error: rados.Error) -> MediaError:
        if isinstance(error, rados.ExtendMismatch):
            return GuardError(verb, f"{self._name}/{name}", f"differs at {error.offset}")
        number = getattr(error, "errno", 0) or 0
        return self._error_of(verb, name, number, str(error))

    def _error_of(self, verb: str, name: str, number: int, said: str = "") -> MediaError:
        subject = f"{self._name}/{name}"
        if number >= _MISMATCH:
            return GuardError(verb, subject, f"differs at {number - _MISMATCH}")
        if number in _NO_ROOM:
            return MediaFullError(verb, subject, "the pool is full")
        return MediaFailedError(verb, subject, said or errno.errorcode.get(number, str(number)))
