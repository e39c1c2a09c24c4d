"""Structured logging: events through the standard library, and one access line a request.

Events are lines of `key=value` pairs (`text`) or JSON objects (`json`), written at once. Access
lines are gathered and written together a moment later, because a write for each request would cost
more than all the rest of logging. Values never contain secrets: callers pass names and numbers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import select
import stat
import sys
import time
from collections.abc import Mapping

FLUSH_DELAY_S = 0.1
PENDING_LINES_MAX = 20_000
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+%*,()\[\]-]+")

log = logging.getLogger("objectstore")


def event(name: str, level: int = logging.INFO, **values: object) -> None:
    """Log an event: a name in snake case and its values."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={"values": values})


def fault(name: str, **values: object) -> None:
    """Log an event with the traceback of the exception being handled."""
    log.error(name, extra={"values": values}, exc_info=True)


def set_up(form: str, role: str) -> None:
    """Send events to standard error in that form (`text` or `json`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(form, role))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


class AccessLog:
    """Writes one line a request to a file descriptor, in batches.

    A write to a pipe or a socket has whole lines and at most PIPE_BUF bytes, so that the lines of
    several processes never mix. When the reader of the log does not keep up, lines are dropped and
    counted rather than letting requests wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, form: str) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._json = form == "json"
        mode = os.fstat(descriptor).st_mode
        self._may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._stamp = ""
        self.dropped = 0

    def request(
        self,
        *,
        request_id: str,
        peer: str,
        method: str,
        target: bytes,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        note: Mapping[str, str],
    ) -> None:
        """Log a finished request. `note` is what the application added (operation, user, …)."""
        if len(self._lines) >= PENDING_LINES_MAX:
            self.dropped += 1
            return
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        stamp = f"{self._stamp}.{int(now * 1000) % 1000:03d}Z"
        # Presigned URLs carry signatures: the query is left out, the operation names what matters.
        path = target.partition(b"?")[0][:1024].decode("latin-1")
        if self._json:
            values: dict[str, object] = {
                "time": stamp,
                "event": "request",
                "id": request_id,
                "peer": peer,
                "method": method,
                "path": path,
                "status": status,
                "in": bytes_in,
                "out": bytes_out,
                "ms": round(seconds * 1000, 2),
                **note,
            }
            self._lines.append(json.dumps(values, separators=(",", ":")) + "\n")
        else:
            extra = "".join([f" {key}={_quoted(value)}" for key, value in note.items()])
            self._lines.append(
                f"{stamp} request id={request_id} peer={peer} {method} {_quoted(path)} "
                f"status={status} in={bytes_in} out={bytes_out} ms={seconds * 1000:.2f}{extra}\n"
            )
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_DELAY_S, self.flush)

    def flush(self) -> None:
        """Write what was gathered."""
        self._timer = None
        lines, self._lines = self._lines, []
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


def _quoted(value: object) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text) is not None:
        return text
    return json.dumps(text, ensure_ascii=False)


class _Formatter(logging.Formatter):
    def __init__(self, form: str, role: str) -> None:
        super().__init__()
        self._json = form == "json"
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        values: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "role": self._role,
            "pid": record.process,
        }
        values.update(getattr(record, "values", {}))
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(values, default=str, separators=(",", ":"))
        head = f"{values.pop('time')} {values.pop('event')}"
        traceback = values.pop("traceback", "")
        rest = "".join(f" {key}={_quoted(value)}" for key, value in values.items())
        return f"{head}{rest}" + (f"\n{traceback}" if traceback else "")
