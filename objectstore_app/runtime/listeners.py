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
    try:
        family, address = _resolve(host, port)
        with socket.socket(family) as probe:
            # SO_REUSEPORT would let us share the port of another store of the same user unnoticed.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
        listeners = []
        for _ in range(count):
            listeners.append(_listen(family, address))
            address = listeners[0].getsockname()
    except OSError as error:
        raise StartError("listen", f"{host}:{port}", _why_not(error)) from error
    return listeners


def bind_beside(host: str, port: int) -> socket.socket:
    """Bind one socket beside those that other processes of ours have at this address, and listen.
    Raises: as bind_listeners.
    """
    try:
        return _listen(*_resolve(host, port))
    except OSError as error:
        raise StartError("listen", f"{host}:{port}", _why_not(error)) from error


_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, _Address]:
    family, _kind, _protocol, _name, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, address


def _listen(family: socket.AddressFamily, address: _Address) -> socket.socket:
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(bounds.LISTEN_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _why_not(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"no such address: {error.strerror}"
    hints = {
        errno.EADDRINUSE: "the port is in use; see `ss -ltnp`, or give another with --listen",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
        errno.EACCES: "not permitted; ports below 1024 need privileges",
    }
    return hints.get(error.errno or 0, str(error))
