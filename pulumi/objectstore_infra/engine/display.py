"""Shows an operation as it goes: a line per step, what changes, log lines, and a summary.

As text for people, or as one JSON object a line (`--json`). Secrets appear as `[secret]`: where the
engine knows a value to be secret, and wherever a text it once saw as a secret turns up again.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from .events import Op
from .plugins import Change
from .state import STACK_TYPE, Resource, urn_name, urn_type_chain
from .values import Json, Properties, has_unknown, is_secret, transform

SIGNS: dict[Op, str] = {
    "same": " ",
    "create": "+",
    "update": "~",
    "replace": "±",
    "delete": "-",
    "retain": " ",
    "refresh": "~",
    "clean": "-",
}
DONE: dict[Op, str] = {
    "same": "unchanged",
    "create": "created",
    "update": "updated",
    "replace": "replaced",
    "delete": "deleted",
    "retain": "left as it is",
    "refresh": "refreshed",
    "clean": "cleaned up",
}
CHANGE_SIGNS = {"add": "+", "delete": "-", "update": "~"}
# Shorter texts are too common to be hidden wherever they appear.
HIDDEN_CHARS_MIN = 4
VALUE_CHARS_MAX = 200
# A key is bare (`tags.owner`), quoted when it has other signs (`tags["a.b"]`), or an index.
_PATH_PART = re.compile(r'\["([^"]*)"\]|([^.\[\]"]+)')


class Display:
    """Writes what happens to a stream; safe to use from several threads."""

    def __init__(self, stream: TextIO, *, as_json: bool, preview: bool) -> None:
        self._stream = stream
        self._json = as_json
        self._preview = preview
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._began: dict[int, float] = {}
        self._counts: Counter[Op] = Counter()
        self._failures: list[tuple[Resource | None, str]] = []
        self._hidden: set[str] = set()

    @property
    def failures(self) -> int:
        """How many failures were reported."""
        return len(self._failures)

    def headline(self, text: str) -> None:
        """Say what is about to be done."""
        self._emit("headline", text, message=text)

    def begin(
        self,
        op: Op,
        row: Resource,
        old: Resource | None = None,
        changes: Sequence[Change] = (),
        note: str = "",
    ) -> None:
        """A step begins."""
        self._began[id(row)] = time.monotonic()
        if op == "same":
            return
        details = [_describe(change, row, old) for change in changes]
        text = self._line(SIGNS[op], op, row, f"({note})" if note else "")
        text += "".join(f"\n{' ' * 13}{detail}" for detail in details)
        self._emit("begin", text, op=op, row=row, note=note, changes=details)

    def end(self, op: Op, row: Resource) -> None:
        """A step is done."""
        took = time.monotonic() - self._began.pop(id(row), time.monotonic())
        with self._lock:
            self._counts[op] += 1
        if self._preview or op == "same":
            return
        text = self._line(SIGNS[op], DONE[op], row, f"{took:.1f} s")
        self._emit("end", text, op=op, row=row, seconds=round(took, 3))

    def fail(self, row: Resource | None, message: str) -> None:
        """A step, or (without a row) the program, failed; told in full by `summary`."""
        with self._lock:
            self._failures.append((row, message))
        text = self._line("!", "failed", row) if row else f"{self._elapsed()} ! failed"
        self._emit("fail", text, row=row, message=message)

    def hide(self, texts: Iterable[str]) -> None:
        """From now on show `[secret]` instead of each of these texts."""
        found = {part for text in texts for part in (text, *text.splitlines())}
        found |= {json.dumps(text)[1:-1] for text in found}
        with self._lock:
            self._hidden |= {text for text in found if len(text) >= HIDDEN_CHARS_MIN}

    def log(self, severity: str, urn: str, message: str) -> None:
        """A message of the program or of a provider, below its resource."""
        if severity == "debug" or not message.strip():
            return
        of_resource = urn and urn_type_chain(urn) != STACK_TYPE
        name = f"{urn_name(urn)} | " if of_resource else "| "
        prefix = f"{self._elapsed()}   {name}" + ("" if severity == "info" else f"{severity}: ")
        text = "\n".join(prefix + line for line in message.rstrip().splitlines())
        self._emit("log", text, severity=severity, urn=urn, message=message)

    def summary(self, title: str, advice: str = "") -> None:
        """Show the failures and the counts; `advice` follows them."""
        lines = []
        for row, message in self._failures:
            where = f"{row.type} {row.name}" if row else "program"
            lines.append(f"error: {where}: " + message.replace("\n", "\n  "))
        total = time.monotonic() - self._start
        counts = ", ".join(
            f"{self._counts[op]} {op if self._preview and op != 'same' else done}"
            for op, done in DONE.items()
            if self._counts[op]
        )
        lines.append(f"{title}: {counts or 'nothing to do'}; {total:.1f} s")
        if advice:
            lines.append(advice)
        self._emit(
            "summary",
            "\n" + "\n".join(lines),
            message=title,
            counts=dict(self._counts),
            failures=[{"urn": r.urn if r else "", "message": m} for r, m in self._failures],
            seconds=round(total, 3),
        )

    def _emit(
        self, event: str, text: str, *, row: Resource | None = None, **fields: object
    ) -> None:
        if self._json:
            about = {"urn": row.urn, "type": row.type, "name": row.name} if row else {}
            stamp = {"event": event, "elapsed": round(time.monotonic() - self._start, 3)}
            text = json.dumps({**stamp, **about, **fields})
        with self._lock:
            # Longest first, or a part of a secret that is a secret too would leave its rest.
            for hidden in sorted(self._hidden, key=len, reverse=True):
                text = text.replace(hidden, "[secret]")
            print(text, file=self._stream, flush=True)

    def _line(self, sign: str, verb: str, row: Resource, rest: str = "") -> str:
        return f"{self._elapsed()} {sign} {verb:<9} {row.type} {row.name} {rest}".rstrip()

    def _elapsed(self) -> str:
        return f"[{time.monotonic() - self._start:6.1f}s]"


def redact(value: Json) -> Json:
    """`value` with `[secret]` and `[unknown]` in the place of what is so."""

    def change(part: Json) -> Json:
        if is_secret(part):
            return "[secret]"
        return "[unknown]" if isinstance(part, str) and has_unknown(part) else part

    return transform(value, change)


def _describe(change: Change, row: Resource, old: Resource | None) -> str:
    sign = CHANGE_SIGNS.get(change.kind, "~")
    before = _show(change.path, old.inputs, old.outputs) if old else ""
    after = _show(change.path, row.inputs, row.outputs)
    if change.path == "provider":
        before, after = old.provider if old else "", row.provider
    suffix = "  (forces a replacement)" if change.replaces else ""
    if change.kind == "add":
        return f"{sign} {change.path}: {after}{suffix}"
    if change.kind == "delete":
        return f"{sign} {change.path}: {before}{suffix}"
    return f"{sign} {change.path}: {before} => {after}{suffix}"


def _show(path: str, inputs: Properties, outputs: Properties) -> str:
    found = _find(path, inputs)
    value = redact(_find(path, outputs) if found is None else found)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "…"


def _find(path: str, properties: Properties) -> Json:
    value: Json = properties
    for quoted, bare in _PATH_PART.findall(path):
        part = quoted or bare
        if is_secret(value):
            break  # what lies in a secret is secret
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
