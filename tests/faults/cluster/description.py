"""Where a deployment is and what it is made of, from its stack's outputs and its inventory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.cluster.machines import Machines
from tests.faults.cluster.traffic import Endpoint

CONTROLLERS = 3


def read_machines(inventory: Path) -> Machines:
    described = json.loads(inventory.expanduser().read_text())
    nodes = tuple(described["default"]["hosts"])
    return Machines(nodes, nodes[:CONTROLLERS], tuple(described["envoy"]["hosts"]))


def read_endpoint(environment: Mapping[str, str]) -> Endpoint:
    """Every client address of the deployment that the environment tells of."""
    inventory = Path(environment["OBJECTSTORE_INVENTORY"]).expanduser()
    described = json.loads(inventory.read_text())["all"]["vars"]
    return Endpoint(
        tuple(described["objectstore_client_addresses"]),
        urlsplit(environment["OBJECTSTORE_TEST_ENDPOINT"]).port or 80,
        environment["OBJECTSTORE_TEST_ACCESS_KEY"],
        environment["OBJECTSTORE_TEST_SECRET_KEY"],
    )
