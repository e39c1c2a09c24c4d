"""Narrowing what a mutation answered to the type its struct promises."""

from __future__ import annotations

from typing import TypeVar

from ..core.errors import InvariantError

T = TypeVar("T")


def expect(result: object, kind: type[T]) -> T:
    """Return `result` as a `kind`; anything else is a programmer's fault."""
    if isinstance(result, kind):
        return result
    raise InvariantError("mutation", type(result).__name__, f"expected {kind.__name__}")
