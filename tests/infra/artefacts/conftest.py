"""A tree to build bundles of, small, and a place of its own for what builds keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_infra.artefacts import source


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or left in the operator's cache and state."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree without artefacts: its declaration is written by the test."""
    root = tmp_path / "tree"
    texts = {
        source.PROJECT: "[project]\n",
        f"{source.PACKAGE}/__init__.py": '__version__ = "1.0.0"\n',
        f"{source.DECLARED}/manifest.in": 'suite = "trixie"\n',
        **dict.fromkeys(source.LOCKS, ""),
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
