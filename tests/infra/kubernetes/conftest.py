"""One control plane for all tests of the folder, and a namespace for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from objectstore_infra.provider.kubernetes.objects import Objects
from objectstore_infra.provider.values import Record
from tests.infra.kubernetes.control_plane import ControlPlane, running
from tests.infra.kubernetes.objects import NAMESPACE, named

_numbers = itertools.count()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane; its tests are skipped where its programs were never built."""
    with running(tmp_path_factory.mktemp("control-plane")) as started:
        yield started


@pytest.fixture
def objects(plane: ControlPlane) -> Objects:
    """What is done to objects."""
    return Objects(plane.cluster)


@pytest.fixture
def namespace(objects: Objects) -> str:
    """A namespace of the test's own."""
    name = f"test-{next(_numbers)}"
    wanted: Record = named(NAMESPACE, name, "")
    objects.create(NAMESPACE, wanted, lambda line: None)
    return name
