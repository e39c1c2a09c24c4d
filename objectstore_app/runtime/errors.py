"""What may go wrong with running the processes.

ObjectStoreError
└─ ProcessError
   ├─ StartError        the store cannot start as told: address, folder, certificate, option
   └─ ChildFailedError  a child process cannot live

A request whose body does not arrive as announced is the client's fault: `protocol.http1.HttpError`.
"""

from __future__ import annotations

from ..core.errors import ObjectStoreError


class ProcessError(ObjectStoreError):
    """Running the store's processes failed."""


class StartError(ProcessError):
    """What the operator asked for cannot be done; `hint` says what would help."""


class ChildFailedError(ProcessError):
    """A child process ended again and again, or could not start at all."""
