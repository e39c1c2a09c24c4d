"""Fixtures that several folders import: the ensemble, and a store's folder in it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from objectstore_app.config.service import ZooKeeperSettings
from tests.zookeeper.ensemble import Ensemble, missing


@pytest.fixture(scope="session")
def ensemble() -> Iterator[Ensemble]:
    """One for all tests; who stops a server starts it again."""
    if said := missing():
        pytest.skip(f"no ZooKeeper here: {said}")
    folder = Path(tempfile.mkdtemp(prefix="zookeeper-"))
    found = Ensemble(folder / "z")
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder)


@pytest.fixture
def zookeeper(ensemble: Ensemble) -> ZooKeeperSettings:
    """A folder of the test's own."""
    return ensemble.settings(f"/objectstore/test-{secrets.token_hex(4)}")
