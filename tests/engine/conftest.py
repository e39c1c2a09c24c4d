"""A store, and a living writer of small log segments; tests with other needs have their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from objectstore_app.media.store import Store, open_store

from .atlas_store import small_segments
from .authorities import make_authorities
from .processes import WriterProcess


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "data")


@pytest.fixture
def writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriterProcess]:
    small_segments(monkeypatch)
    process = WriterProcess(store)
    yield process
    if not process.ended:
        process.stop()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authorities(tmp_path_factory.mktemp("tls"))
