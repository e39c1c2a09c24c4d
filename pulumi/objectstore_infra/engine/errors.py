"""Errors of the embedded engine.

EngineError              message plus hint, as in `objectstore_infra.errors`
├─ UnsupportedError      the program asks for something only the real `pulumi` does
├─ ProjectError          Pulumi.yaml or Pulumi.STACK.yaml cannot be used
├─ StateError            the state file, its lock or its secrets cannot be used
├─ ProviderError         a provider refused, failed, or died
└─ StoppedError          nothing more is begun: an earlier step failed, or the operator said so
"""

from __future__ import annotations

from objectstore_infra.errors import InfraError


class EngineError(InfraError):
    """The operation cannot go on."""


class UnsupportedError(EngineError):
    """A part of Pulumi that the embedded engine does not implement."""

    def __init__(self, feature: str) -> None:
        self.feature = feature
        super().__init__(
            f"the embedded engine does not support {feature}",
            hint="install the pulumi command, or do without it",
        )


class ProjectError(EngineError):
    """The project or the stack's configuration cannot be used."""


class StateError(EngineError):
    """The state cannot be read, written, locked or decrypted."""


class ProviderError(EngineError):
    """A provider refused a resource, failed at it, or its process ended."""


class StoppedError(EngineError):
    """The operation begins no further step; what stopped it has been said already."""

    def __init__(self) -> None:
        super().__init__("the operation is stopping")
