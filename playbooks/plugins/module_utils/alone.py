"""One at a time on a node: a playbook that is cut off leaves its last module at work there, and the
next run must not step in between. Standard library only, since it runs with the node's own Python.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUN = Path("/run")
POLL_S = 0.5


@contextmanager
def alone(name: str, timeout_s: float) -> Iterator[None]:
    """Hold the node's lock of that name, which ends with the process. Raises: TimeoutError."""
    deadline = time.monotonic() + timeout_s
    with (RUN / f"objectstore-{name}.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"another run is still at work with {name} on this node"
                    ) from None
            time.sleep(POLL_S)
        yield
