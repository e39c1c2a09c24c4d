"""The parent process: starts, watches, restarts and ends the processes of a store.

Theory of operation. Children are forked from a parent that has opened nothing but what they are to
inherit. Each child has a pipe to the parent:
`ready` goes through it when the child serves, or the reason why it cannot. Children are started in
*stages* (writers, then what uses them); a stage begins when the one before is ready, and stages are
ended in the opposite order. A child that ends unasked is started again after a pause that doubles;
one that ends again and again without having lived for a while ends the whole store, with its
reason. One that ends because another store's process has its place (`SupersededError`, an exit code
of its own) is started again, too, but told so: it waits until the place is free instead of taking
it back, or two stores would drive each other out in turns. A *periodic* child is started now and
then, does its work and ends; it keeps nobody waiting, and how it ends is its own affair. Only one
that works `at_start`, too, is waited for then.

At the start the parent imports what children have in common, so that they share its memory
(`prepare`). It needs none of that itself: once all serve, another program may take its process over
(`hand_over`), with the same children, signals and pipes. A child that is forked later imports for
itself.

The parent serves nothing and holds no state: it waits for signals, pipes and its next deadline. If
it is killed, the kernel kills the children (PR_SET_PDEATHSIG), so nothing is left behind; the
store's crash recovery is what makes this safe.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import FrameType

from ..core.errors import ObjectStoreError, invariant
from .errors import ChildFailedError, SupersededError
from .logging import event, fault
from .metrics import Counters, MetricsBoard

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 5.0
STABLE_S = 10.0
FAILURES_MAX = 6
FIRST_PERIOD_S_MAX = 60.0
HURRIED_EVERY_S = 30.0
KILLED_S = 3600.0
FAILED_EXIT = 1
SUPERSEDED_EXIT = 3
SUPERVISOR_SLOT = 0
_PR_SET_PDEATHSIG = 1
_REASON_BYTES_MAX = 4096
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_STOP_SIGNALS, signal.SIGCHLD)
_READY = "ready"

invariant(BACKOFF_S_MIN < BACKOFF_S_MAX < STABLE_S, "a pause is no life")


@dataclass(frozen=True, slots=True)
class ChildContext:
    """What a child's main function is given: its metrics slot, how to say that it serves, and
    whether the one before it was `superseded`: then it must wait until its place is free.
    """

    slot: int
    ready: Callable[[], None]
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child process. `stop_timeout_s` is how long it may take to end when asked (SIGTERM).
    `every_s` makes it periodic: it is started that long after it ended; `at_start` in its stage,
    too, where it has to be ready like the others. While it is `hurried`, which is looked at now and
    then, it is started before its time.
    """

    name: str
    role: str
    stage: int
    main: Callable[[ChildContext], None]
    stop_timeout_s: float
    every_s: float = 0.0
    at_start: bool = False
    hurried: Callable[[], bool] | None = None

    @property
    def starts(self) -> bool:
        """Whether the start of the store waits for it."""
        return self.at_start or not self.every_s


@dataclass(slots=True, kw_only=True)
class ChildState:
    """What the parent knows of a child: its process and its pipe, and how it has fared. Times are
    those of `time.monotonic`.
    """

    pid: int = 0
    pipe: int = -1
    started: float = 0.0
    ready: bool = False
    heard: str = ""
    failures: int = 0
    start_at: float | None = None
    superseded: bool = False


@dataclass(slots=True, kw_only=True)
class _Child(ChildState):
    spec: ChildSpec
    slot: int


@dataclass(slots=True)
class Supervisor:
    """Runs children until a signal ends them. `board` has a slot for each child and one more.

    `on_ready` is called once, when every child serves for the first time; `on_stop` when the end
    begins. `prepare` is called with a stage whose children have not been forked yet, while those of
    the one before start.
    """

    specs: Sequence[ChildSpec]
    board: MetricsBoard
    on_stop: Callable[[], None]
    on_ready: Callable[[Supervisor], None] = lambda _: None
    prepare: Callable[[int], None] = lambda _: None
    _children: list[_Child] = field(default_factory=list)
    _counters: Counters = field(init=False)
    _wake_read: socket.socket = field(init=False)
    _wake_write: socket.socket = field(init=False)
    _signals: int = 0

    def run(self, states: Sequence[ChildState] = ()) -> None:
        """Return when all children have ended because a signal asked for it. With `states` the
        children, one for each of `specs`, live already: they were handed over.

        Raises: ChildFailedError when one cannot live; all others have ended then.
        """
        self._counters = self.board.load(SUPERVISOR_SLOT, "supervisor")
        self.board.store(SUPERVISOR_SLOT, self._counters)
        known = zip(self.specs, states or [ChildState()] * len(self.specs), strict=True)
        self._children = [
            _Child(spec=spec, slot=slot, **asdict(state))
            for slot, (spec, state) in enumerate(known, SUPERVISOR_SLOT + 1)
        ]
        self._catch_signals()
        failure: ChildFailedError | None = None
        try:
            if states:
                self._watch()
            elif self._start_all():
                self.on_ready(self)
                self._watch()
        except ChildFailedError as error:
            failure = error
        self.on_stop()
        self._stop_all(at_once=failure is not None)
        if failure is not None:
            raise failure

    def hand_over(self) -> list[ChildState] | None:
        """What another program must know to take over this process and its children, for its `run`.
        The pipes stay open across an exec; signals wait from now on for that `run`. None when one
        has asked for the end already.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if self._signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return None
        names = [each.name for each in fields(ChildState)]
        for child in self._children:
            if child.pipe >= 0:
                os.set_inheritable(child.pipe, True)
        return [
            ChildState(**{name: getattr(child, name) for name in names}) for child in self._children
        ]

    # --- life ---

    def _start_all(self) -> bool:
        """Start stage by stage; False when a signal came before all was up."""
        stages = sorted({child.spec.stage for child in self._children if child.spec.starts})
        self.prepare(stages[0])
        for stage, following in itertools.pairwise([*stages, None]):
            members = [
                child for child in self._children if child.spec.stage == stage and child.spec.starts
            ]
            gc.collect()
            gc.freeze()  # so that a child's collections do not copy the pages it shares with us
            for child in members:
                self._fork(child)
            if following is not None:
                self.prepare(following)
            while not all(child.ready for child in members):
                self._wait(None)
                if self._signals:
                    return False
                for child in self._reap():
                    if not (child.spec.every_s and child.ready):
                        raise ChildFailedError("start", child.spec.name, _reason(child))
                    self._plan_restart(child)
        return True

    def _watch(self) -> None:
        for child in self._children:
            if child.spec.every_s and not child.pid and child.start_at is None:
                child.start_at = time.monotonic() + min(child.spec.every_s, FIRST_PERIOD_S_MAX)
        while not self._signals:
            starts = [each.start_at for each in self._children if each.start_at is not None]
            if any(each.start_at is not None and each.spec.hurried for each in self._children):
                starts.append(time.monotonic() + HURRIED_EVERY_S)
            self._wait(min(starts, default=None))
            for child in self._reap():
                self._plan_restart(child)
            now = time.monotonic()
            for child in self._children:
                if child.start_at is None or self._signals:
                    continue
                if child.start_at <= now or _is_hurried(child, now):
                    self._fork(child)

    def _plan_restart(self, child: _Child) -> None:
        now = time.monotonic()
        if child.spec.every_s:
            child.start_at = now + child.spec.every_s
            return
        reason = _reason(child)
        if child.superseded and child.ready:
            child.failures, child.start_at = 0, now + BACKOFF_S_MAX
            event("child_superseded", child=child.spec.name, reason=reason, in_s=BACKOFF_S_MAX)
            return
        child.failures = 1 if now - child.started > STABLE_S else child.failures + 1
        if child.failures >= FAILURES_MAX:
            raise ChildFailedError("keep running", child.spec.name, reason)
        pause = min(BACKOFF_S_MIN * 2 ** (child.failures - 1), BACKOFF_S_MAX)
        child.start_at = now + pause
        restarts = self._counters.restarts
        restarts[child.spec.role] = restarts.get(child.spec.role, 0) + 1
        self.board.store(SUPERVISOR_SLOT, self._counters)
        event("child_restarts", child=child.spec.name, reason=reason, in_s=pause)

    def _stop_all(self, *, at_once: bool) -> None:
        asked = self._signals
        for child in self._children:
            child.start_at = None
        for stage in sorted({child.spec.stage for child in self._children}, reverse=True):
            members = [child for child in self._children if child.spec.stage == stage]
            for child in members:
                if child.pid:
                    os.kill(child.pid, signal.SIGKILL if at_once else signal.SIGTERM)
            deadline = time.monotonic() + max(child.spec.stop_timeout_s for child in members)
            while any(child.pid for child in members):
                impatient = self._signals > max(asked, 1)
                if impatient or time.monotonic() >= deadline:
                    for child in self._children if impatient else members:
                        if child.pid:
                            event("child_killed", child=child.spec.name)
                            os.kill(child.pid, signal.SIGKILL)
                    deadline = time.monotonic() + KILLED_S
                    asked = self._signals
                self._wait(deadline)
                self._reap()

    def _wait(self, deadline: float | None) -> None:
        """Sleep until a signal, news from a child, or the deadline."""
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        pipes = {child.pipe: child for child in self._children if child.pipe >= 0}
        wake = self._wake_read.fileno()
        readable, _, _ = select.select([wake, *pipes], [], [], timeout)
        for source in readable:
            if source == wake:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
            else:
                self._hear(pipes[source])

    def _hear(self, child: _Child) -> None:
        data = os.read(child.pipe, _REASON_BYTES_MAX)
        child.heard = (child.heard + data.decode("utf-8", "replace"))[:_REASON_BYTES_MAX]
        if not child.ready and child.heard.startswith(_READY):
            child.ready = True
            child.heard = child.heard[len(_READY) :]
        if not data:
            os.close(child.pipe)
            child.pipe = -1

    def _reap(self) -> list[_Child]:
        """Collect the children that have ended."""
        ended = []
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            while child.pipe >= 0:
                self._hear(child)
            code = os.waitstatus_to_exitcode(status)
            # One that was told to wait, and ends before it serves, has still to wait.
            waited = child.superseded and not child.ready
            child.superseded = waited or code == SUPERSEDED_EXIT
            if not child.heard:
                how = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
                child.heard = f"ended with {how}"
            event("child_ended", child=child.spec.name, child_pid=pid, reason=_reason(child))
            child.pid = 0
            ended.append(child)
        return ended

    # --- forking ---

    def _fork(self, child: _Child) -> None:
        read_end, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        child.started = time.monotonic()
        child.start_at = None
        child.ready = False
        child.heard = ""
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            self._become(child, write_end, parent)
        os.close(write_end)
        child.pid, child.pipe = pid, read_end
        event("child_started", child=child.spec.name, child_pid=pid)

    def _become(self, child: _Child, pipe: int, parent: int) -> None:
        """Run the child's main function; never returns."""
        code = FAILED_EXIT
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # the parent died before the line above
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to us all
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._wake_read.close()
            self._wake_write.close()
            for other in self._children:
                if other.pipe >= 0:
                    os.close(other.pipe)
            child.spec.main(
                ChildContext(child.slot, lambda: _tell(pipe, _READY.encode()), child.superseded)
            )
            code = 0
        except SupersededError as error:
            code = SUPERSEDED_EXIT
            _tell(pipe, str(error).encode())
        except ObjectStoreError as error:
            _tell(pipe, str(error).encode())
        except Exception as error:  # noqa: BLE001 - the parent must hear why
            fault("child_failed", child=child.spec.name)
            _tell(pipe, f"{type(error).__name__}: {error}".encode())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _catch_signals(self) -> None:
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._asked_to_stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _asked_to_stop(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1


def _is_hurried(child: _Child, now: float) -> bool:
    hurried = child.spec.hurried
    return hurried is not None and now - child.started >= HURRIED_EVERY_S and hurried()


def _reason(child: _Child) -> str:
    return child.heard.strip()


def _tell(pipe: int, what: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(pipe, what[:_REASON_BYTES_MAX])
