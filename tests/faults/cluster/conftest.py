"""What the faults of a deployment's cluster share: the operator's folder, and the API watched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster.api import Api, trusting


@pytest.fixture
def folder() -> Path:
    name = os.environ.get("OBJECTSTORE_INVENTORY")
    if not name:
        pytest.skip("OBJECTSTORE_INVENTORY names no deployment")
    return Path(name).expanduser().parent


@pytest.fixture
def inventory(folder: Path) -> dict:
    return json.loads((folder / "inventory.json").read_text())


@pytest.fixture
def api(folder: Path, inventory: dict, tmp_path: Path) -> Iterator[Api]:
    address = inventory["all"]["vars"]["objectstore_management_address"]
    with Api(address, trusting(folder, tmp_path / "administrator.pem")) as asked:
        yield asked
