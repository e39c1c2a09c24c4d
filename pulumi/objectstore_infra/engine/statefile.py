"""The state of one stack on disk, and the lock that one operation at a time holds.

Writing is: a new file beside the old one → fsync → rename → fsync of the folder; whoever reads sees
the old state or the new one. The file's mode is 0600.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from .errors import StateError
from .passphrase import Crypter
from .state import Pending, Resource, encode, now
from .values import Json

LOCK_WAIT_S = 20.0
_LOCK_POLL_S = 0.1


class StateFile:
    """The state of one stack on disk, and the lock that one operation at a time holds."""

    def __init__(self, state_dir: Path, project: str, stack: str) -> None:
        folder = state_dir / "stacks" / project
        self.path = folder / f"{stack}.json"
        self.lock_path = folder / f"{stack}.lock"
        self._crypter: Crypter | None = None

    def use(self, crypter: Crypter) -> None:
        """Seal what is saved from now on with `crypter`."""
        self._crypter = crypter

    def read_document(self) -> object | None:
        """The document on disk, or None if the stack has none yet.

        Raises:
            StateError: the file cannot be read or is not JSON.
        """
        try:
            return cast("object", json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StateError(f"cannot read the state {self.path}: {error}") from error

    def save(self, resources: list[Resource], pending: list[Pending]) -> None:
        """Replace the state; returns when it is durable."""
        if self._crypter is None:
            raise StateError("the state was not opened for writing")
        self.write_document(encode(resources, pending, self._crypter))

    def write_document(self, document: Mapping[str, Json]) -> None:
        """Replace the state file; returns when it is durable.

        Raises:
            StateError: it cannot be written.
        """
        partial = self.path.with_suffix(".json.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as handle:
                json.dump(document, handle, indent=1)
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StateError(f"cannot write the state {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """Forget the stack; a missing state is fine."""
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, operation: str, wait_s: float = LOCK_WAIT_S) -> Iterator[int]:
        """Hold the stack for one operation; gives the descriptor that carries the lock.

        The lock belongs to the open file, so it also lasts as long as a child process that was
        given the descriptor: an operation that was killed keeps the stack until its providers have
        been stopped too. That takes seconds, which is what the wait is for.

        Raises:
            StateError: another operation holds it; it is named with its process id.
        """
        self.lock_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._acquire(descriptor, wait_s)
            os.ftruncate(descriptor, 0)
            owner = {"pid": os.getpid(), "operation": operation, "since": now()}
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
            try:
                yield descriptor
            finally:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def owner(self) -> tuple[int, str] | None:
        """The process id and operation of whoever holds the lock, or None."""
        try:
            data = json.loads(self.lock_path.read_bytes() or b"null")
        except (FileNotFoundError, ValueError):
            return None
        if not data or not Path(f"/proc/{data['pid']}").exists():
            return None
        return int(data["pid"]), f"{data['operation']} since {data['since']}"

    def _acquire(self, descriptor: int, wait_s: float) -> None:
        # A live owner is refused at once: waiting is only for the providers of a dead one.
        waited = threading.Event()
        for _ in range(max(1, int(wait_s / _LOCK_POLL_S))):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if owner := self.owner():
                    raise StateError(
                        f"another operation holds this stack: {owner[1]}, process {owner[0]}",
                        hint="wait for it, or stop it with `objectstore stack cancel`",
                    ) from None
                waited.wait(_LOCK_POLL_S)
            else:
                return
        raise StateError(
            f"the stack is locked: the providers of an interrupted run still hold {self.lock_path}"
        )
