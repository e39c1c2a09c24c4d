"""One access line a request.

What lines are made of is gathered, and the lines are made and written together a moment later: a
write for each request would cost more than all the rest of logging.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import stat
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from .logging import PLAIN, quoted, second

FLUSH_DELAY_S = 0.1
FLUSH_LINES = 256
"""As many are written at once: making lines must not keep requests waiting for long."""
LOGGED_PATH_BYTES_MAX = 1024


class AccessLine(msgspec.Struct, frozen=True, gc=False):
    """A finished request. `ended_s` is seconds since the epoch; `path` the target without its
    query, for presigned URLs carry signatures there; `note` what the application added (operation,
    user, …).
    """

    ended_s: float
    request_id: str
    peer: str
    method: str
    path: bytes
    status: int
    bytes_in: int
    bytes_out: int
    seconds: float
    note: Mapping[str, str]


class AccessLog:
    """Writes one line a request to a file descriptor, in batches.

    A write to a pipe or a socket has whole lines and at most PIPE_BUF bytes, so that the lines of
    several processes never mix. When the reader of the log does not keep up, lines are dropped and
    counted rather than letting requests wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, form: str) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._lines_of = _json_lines if form == "json" else _text_lines
        mode = os.fstat(descriptor).st_mode
        self._may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._pending: list[AccessLine] = []
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def request(self, line: AccessLine) -> None:
        """Log a finished request."""
        pending = self._pending
        pending.append(line)
        if len(pending) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_DELAY_S, self._flush_late)

    def flush(self) -> None:
        """Write what was gathered."""
        pending, self._pending = self._pending, []
        lines = self._lines_of(pending)
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            lines.append(f"access_lines_dropped count={dropped}\n")
        data = "".join(lines).encode("utf-8", "backslashreplace")
        for piece in _whole_lines(data, select.PIPE_BUF) if self._may_block else (data,):
            # The descriptor is shared with other processes, so it cannot be made non-blocking.
            if self._may_block and not select.select([], [self._descriptor], [], 0)[1]:
                self.dropped += piece.count(b"\n")
                continue
            try:
                os.write(self._descriptor, piece)
            except OSError:
                return  # the log's reader is gone; the store lives on without it

    def _flush_late(self) -> None:
        self._timer = None
        self.flush()


def _text_lines(pending: Sequence[AccessLine]) -> list[str]:
    lines = []
    for line in pending:
        path = line.path.decode("latin-1")
        if PLAIN.fullmatch(path) is None:
            path = quoted(path)
        extra = "".join([f" {key}={_quoted_again(value)}" for key, value in line.note.items()])
        lines.append(
            f"{second(int(line.ended_s))}.{int(line.ended_s * 1000) % 1000:03d}Z request "
            f"id={line.request_id} peer={line.peer} {line.method} {path} status={line.status} "
            f"in={line.bytes_in} out={line.bytes_out} ms={line.seconds * 1000:.2f}{extra}\n"
        )
    return lines


def _json_lines(pending: Sequence[AccessLine]) -> list[str]:
    lines = []
    for line in pending:
        values: dict[str, object] = {
            "time": f"{second(int(line.ended_s))}.{int(line.ended_s * 1000) % 1000:03d}Z",
            "event": "request",
            "id": line.request_id,
            "peer": line.peer,
            "method": line.method,
            "path": line.path.decode("latin-1"),
            "status": line.status,
            "in": line.bytes_in,
            "out": line.bytes_out,
            "ms": round(line.seconds * 1000, 2),
            **line.note,
        }
        lines.append(json.dumps(values, separators=(",", ":")) + "\n")
    return lines


def _whole_lines(data: bytes, size: int) -> list[bytes]:
    """Cut at line ends into pieces of at most `size` bytes; a longer line is a piece of its own."""
    pieces, start = [], 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + size) + 1
        if end <= start:
            end = data.find(b"\n", start) + 1 or len(data)
        pieces.append(data[start:end])
        start = end
    return pieces


# Operations, buckets and users are the same few in line after line.
_quoted_again = lru_cache(maxsize=1024)(quoted)
