"""Unix sockets by folder and name, however long the folder's path is.

A socket's address holds some hundred bytes only; the folder is therefore named by a descriptor of
this process.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_BACKLOG = 128


def listen(folder: Path, name: str) -> socket.socket:
    """A listening socket at that name, in the place of one that a dead process left."""
    (folder / name).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{descriptor}/{name}")
        (folder / name).chmod(0o600)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(descriptor)
    sock.setblocking(False)
    return sock


def connect(folder: Path, name: str) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError when nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{descriptor}/{name}")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(descriptor)
    sock.setblocking(False)
    return sock
