"""What each kind of resource declares and does.

A handler declares its inputs once, each with what a change of it means; check, diff and the marking
of secrets follow from that. The state of a resource is its inputs plus its outputs, so that a diff
of state against inputs also sees what `read` found changed by hand.

Every `create` is idempotent for the same owner: after an interrupted run the engine repeats it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from objectstore_infra.provider.values import Plain, Record, has_unknown
from objectstore_infra.substrates.base import Substrate


class OnChange(Enum):
    """What a changed input leads to."""

    UPDATE = "update"
    REPLACE = "replace"
    NOTHING = "nothing"
    """It only matters at birth."""


@dataclass(frozen=True, slots=True)
class Input:
    """One declared input."""

    kind: type | tuple[type, ...]
    on_change: OnChange = OnChange.REPLACE
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """One declared output."""

    secret: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler works with during one call."""

    substrate: Substrate
    say: Callable[[str], None]
    """Shows a line under the resource, live."""


@dataclass(frozen=True, slots=True)
class Found:
    """What `read` saw: the inputs as they are in the world, and the outputs."""

    resource_id: str
    state: Record


class Handler(ABC):
    """One kind of resource."""

    type_name: ClassVar[str]
    inputs: ClassVar[Mapping[str, Input]]
    outputs: ClassVar[Mapping[str, Output]] = {}

    def check(self, inputs: Record) -> list[tuple[str, str]]:
        """Return (property, reason) for each input that is wrong, missing or unheard of."""
        wrong = [(name, "no such input") for name in inputs if name not in self.inputs]
        for name, declared in self.inputs.items():
            value = inputs.get(name)
            if value is None:
                wrong.append((name, "is missing"))
            elif not has_unknown(value) and not isinstance(value, declared.kind):
                wrong.append((name, f"has the wrong type {type(value).__name__}"))
        return wrong

    def changed(self, state: Record, inputs: Record) -> dict[str, OnChange]:
        """Return the inputs that differ from the state, with what that leads to."""
        return {
            name: declared.on_change
            for name, declared in self.inputs.items()
            if declared.on_change is not OnChange.NOTHING and state.get(name) != inputs.get(name)
        }

    @property
    def secrets(self) -> frozenset[str]:
        """Names of inputs and outputs that must never be shown."""
        declared: list[tuple[str, Input | Output]] = [*self.inputs.items(), *self.outputs.items()]
        return frozenset(name for name, property_ in declared if property_.secret)

    @abstractmethod
    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Make it; return its id and its outputs."""

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """Look at it; None when it is gone. The default knows nothing outside the state.

        An empty id asks for what an interrupted create with these inputs left behind.
        """
        return Found(resource_id, state) if resource_id else None

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Change it in place; return its outputs."""
        raise AssertionError(f"{self.type_name} declares no input that updates in place")

    @abstractmethod
    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Remove it; one that is gone is fine."""


def text(record: Mapping[str, Plain], name: str) -> str:
    """Return a text field."""
    value = record[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value


def texts(record: Mapping[str, Plain], name: str) -> list[str]:
    """Return a field that is a list of texts."""
    value = record[name]
    if not isinstance(value, list):
        raise TypeError(f"{name} is not a list")
    return [str(item) for item in value]


def number(record: Mapping[str, Plain], name: str) -> int:
    """Return a whole number field."""
    value = record[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is not a whole number")
    return value


def mapping(record: Mapping[str, Plain], name: str) -> Mapping[str, Plain]:
    """Return a mapping field."""
    value = record[name]
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is not a mapping")
    return value
