"""The root of every error that this application raises on purpose.

Each package draws its own tree below `ObjectStoreError` atop its `errors.py`. Three kinds exist: a
client's fault (has an S3 code, assigned in one table at the edge), an operating fault (retry or
degrade) and a programmer's fault (`invariant`).
"""

from __future__ import annotations


class ObjectStoreError(Exception):
    """An error with the operation that failed, what it failed on, and what would help.

    `retryable` says whether the same call may succeed later with nothing changed by the caller.
    """

    retryable: bool = False

    def __init__(self, operation: str, subject: str = "", hint: str = "") -> None:
        self.operation = operation
        self.subject = subject
        self.hint = hint
        super().__init__(": ".join(part for part in (operation, subject, hint) if part))


class InvariantError(ObjectStoreError):
    """A programmer's fault: the process must not go on with what it holds in memory."""


def invariant(condition: bool, message: str) -> None:
    """Crash with `message` unless `condition` holds; unlike `assert` it survives `python -O`."""
    if not condition:
        raise InvariantError("invariant", message)
