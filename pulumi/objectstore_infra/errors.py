"""Errors of the deployment side.

InfraError                 operation, subject, cause; hint = what the operator can do about it
├─ SpecError               the stack's configuration is refused; carries every problem at once
├─ HostError               this machine cannot be set up
├─ BackupError             a backup cannot be made, is not usable, or would overwrite what is there
└─ SubstrateError          the substrate (Incus) refused or failed; its own text is kept
   ├─ SubstrateUnreachableError nothing answers at its socket
   ├─ NotFoundError             the subject does not exist
   ├─ ConflictError             exists and belongs to somebody else, or an address is taken
   └─ ChangedMeanwhileError     an ETag-guarded update lost the race; read again and retry
"""

from __future__ import annotations

from collections.abc import Sequence


class InfraError(Exception):
    """A deployment error that reads as one sentence plus a hint."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n  what to do: {hint}" if hint else message)


class SpecError(InfraError):
    """The configuration is refused; `problems` has one line for each thing wrong."""

    def __init__(self, problems: Sequence[object]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"the stack's configuration is refused, nothing was changed:{lines}")


class HostError(InfraError):
    """This machine cannot carry a deployment; the message says why."""


class BackupError(InfraError):
    """A backup cannot be made, is not usable, or would overwrite what is there."""


class SubstrateError(InfraError):
    """The substrate refused or failed."""


class SubstrateUnreachableError(SubstrateError):
    """Nothing answers where the substrate should."""


class NotFoundError(SubstrateError):
    """The subject does not exist."""


class ConflictError(SubstrateError):
    """The subject exists and belongs to somebody else."""


class ChangedMeanwhileError(SubstrateError):
    """Somebody changed the subject between our read and our write."""
