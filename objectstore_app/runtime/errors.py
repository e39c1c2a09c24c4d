"""What may go wrong with running the processes.

ObjectStoreError
└─ ProcessError
   ├─ StartError        the store cannot start as told: address, folder, certificate, option
   ├─ SupersededError   another process has taken this one's place
   └─ ChildFailedError  a child process cannot live

A request whose body does not arrive as announced is the client's fault: `protocol.http1.HttpError`.
"""

from __future__ import annotations

from ..core.errors import ObjectStoreError


class ProcessError(ObjectStoreError):
    """Running the store's processes failed."""


class StartError(ProcessError):
    """What the operator asked for cannot be done; `hint` says what would help."""


class SupersededError(ProcessError):
    """Another process has taken this one's place, and may not be driven out of it by its parent's
    care: it has to end, and its successor to wait until the place is free.
    """


class ChildFailedError(ProcessError):
    """A child process ended again and again, or could not start at all."""
