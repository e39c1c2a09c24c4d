"""What the parts of the Incus substrate share: the client, ownership, exclusive updates."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from objectstore_infra.errors import ConflictError
from objectstore_infra.substrates.incus_client import DEFAULT_SOCKET, IncusClient

KEY_OWNER = "user.objectstore.owner"
GUARDED_UPDATES_MAX = 30


class IncusPart:
    """One Incus daemon."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET, storage_pool: str = "default") -> None:
        self._client = IncusClient(socket_path)
        self._pool = storage_pool

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other stores of this machine from updating the same daemon's records meanwhile.

        Incus compares the ETag before it takes its own lock, so that of two updates at the same
        moment both pass the comparison and one is lost (seen with 6.0).
        """
        name = hashlib.sha256(self._client.socket_path.encode()).hexdigest()[:12]
        lock = Path(tempfile.gettempdir()) / f"objectstore-incus-{name}-{os.getuid()}.lock"
        with lock.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @staticmethod
    def _owned(subject: str, actual: str, wanted: str) -> None:
        if actual != wanted:
            raise ConflictError(
                f"{subject} exists and belongs to {actual or 'nobody we know'}, not to {wanted}",
                hint="choose another store name, or remove it if it is a left-over",
            )
