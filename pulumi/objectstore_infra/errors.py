"""Errors of the deployment side.

    InfraError                 operation, subject, cause; hint = what the operator can do about it
    ├─ SpecError               the stack's configuration is refused; carries every problem at once
    ├─ HostError               this machine cannot be set up
    └─ SubstrateError          the substrate (Incus) refused or failed; its own text is kept
       ├─ SubstrateUnreachable nothing answers at its socket
       ├─ NotFound             the subject does not exist
       ├─ Conflict             exists and belongs to somebody else, or an address is taken
       └─ ChangedMeanwhile     an ETag-guarded update lost the race; read again and retry
"""

from __future__ import annotations


class InfraError(Exception):
    """A deployment error that reads as one sentence plus a hint."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n  what to do: {hint}" if hint else message)


class HostError(InfraError):
    """This machine cannot carry a deployment; the message says why."""


class SubstrateError(InfraError):
    """The substrate refused or failed."""


class SubstrateUnreachable(SubstrateError):
    """Nothing answers where the substrate should."""


class NotFound(SubstrateError):
    """The subject does not exist."""


class Conflict(SubstrateError):
    """The subject exists and belongs to somebody else."""


class ChangedMeanwhile(SubstrateError):
    """Somebody changed the subject between our read and our write."""
