"""See `fixtures.py`."""

from __future__ import annotations

from tests.zookeeper.fixtures import ensemble, zookeeper

__all__ = ["ensemble", "zookeeper"]
