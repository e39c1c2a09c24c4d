"""The sockets that listen, and the descriptors there may be; made before anything serves."""

from __future__ import annotations

import errno
import resource
import socket

from ..core import limits as bounds
from ..core.errors import invariant
from .errors import StartError


def raise_descriptor_limit() -> None:
    """Let this process and its children open as many files as it is allowed to allow itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bind_listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Bind `count` sockets to the same address and listen; the kernel spreads connections.

    Port 0 picks a free port, the same for all. Raises: StartError when the address is in use, not
    this machine's, or not allowed.
    """
    invariant(count > 0, "at least one listener")
    subject = f"{host}:{port}"
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # SO_REUSEPORT would let us share the port of another store of the same user unnoticed.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
        listeners = []
        for _ in range(count):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen(bounds.LISTEN_BACKLOG)
            address = listener.getsockname()
    except OSError as error:
        raise StartError("listen", subject, _why_not(error)) from error
    return listeners


def _why_not(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"no such address: {error.strerror}"
    hints = {
        errno.EADDRINUSE: "the port is in use; see `ss -ltnp`, or give another with --listen",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
        errno.EACCES: "not permitted; ports below 1024 need privileges",
    }
    return hints.get(error.errno or 0, str(error))
