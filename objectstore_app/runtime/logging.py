"""Structured logging of events, through the standard library.

Events are lines of `key=value` pairs (`text`) or JSON objects (`json`), written at once. Values
never contain secrets: callers pass names and numbers. Lines of requests: `access_log`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from functools import lru_cache

PLAIN = re.compile(r"[A-Za-z0-9_.:/@+%*,()\[\]-]+")

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


@lru_cache(maxsize=4)
def second(since_1970: int) -> str:
    """The time as it stands in a line, but for what is less than a second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since_1970))


def quoted(value: object) -> str:
    """A value as it stands in a line of text: as a JSON text where it might be misread."""
    text = str(value)
    if PLAIN.fullmatch(text) is not None:
        return text
    return json.dumps(text, ensure_ascii=False)


class _Formatter(logging.Formatter):
    def __init__(self, form: str, role: str) -> None:
        super().__init__()
        self._json = form == "json"
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, object] = {
            "time": f"{second(int(record.created))}.{int(record.msecs):03d}Z",
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
        rest = "".join(f" {key}={quoted(value)}" for key, value in values.items())
        return f"{head}{rest}" + (f"\n{traceback}" if traceback else "")
