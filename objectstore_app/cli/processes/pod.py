"""The program that starts a pod of a deployed store: it makes the pod's folder and runs its
children.

What is in the folder is disposable: views, sockets, copies. Which store it is of is told by the
pod's settings, never by the folder. A service's module has `children`, which says what processes
its pod has; each child imports its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from ...config.service import ServiceSettings, service_settings
from ...core.errors import ObjectStoreError
from ...core.ids import ShardId
from ...media.place import settle_place
from ...media.store import MASTER_KEY_BYTES, Store, StoreFolderError, open_store, write_durably
from ...runtime import logging
from ...runtime.listeners import raise_descriptor_limit
from ...runtime.metrics import MetricsBoard
from ...runtime.supervisor import ChildSpec, Supervisor

SLOTS_BESIDE = 8


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What every process of a pod may know."""

    service: str
    settings: ServiceSettings
    store: Store
    board: MetricsBoard

    @property
    def shards(self) -> tuple[ShardId, ...]:
        """Those that pods of this service share out among themselves."""
        directory, *data = self.store.shards
        return {"iam": (directory,), "metadata": tuple(data)}.get(self.service, ())


def main(values: Mapping[str, str], shown: Sequence[str]) -> None:
    """Serve until a signal ends it. `values`: the service's name and module, its settings' file."""
    try:
        settings = service_settings(Path(values["config"]), os.environ)
        logging.set_up(settings.log_format, "supervisor")
        raise_descriptor_limit()
        store = pod_store(settings)
        with store.lock("serve"):
            for held in store.run.glob("*.held"):
                held.unlink()  # after a power loss the views may be behind what these say
            slots = settings.data_shards + settings.workers + SLOTS_BESIDE
            plan = PodPlan(values["service"], settings, store, MetricsBoard(slots))
            module = import_module(f".{values['module']}", __package__)
            children = cast("Callable[[PodPlan], list[ChildSpec]]", module.children)
            Supervisor(children(plan), plan.board, on_stop=lambda: None).run()
    except ObjectStoreError as error:
        sys.exit(f"Error: {error}")


def pod_store(settings: ServiceSettings) -> Store:
    """The pod's folder, made where there is none. Raises StoreFolderError: it is of another store,
    or the master key is none.
    """
    store = open_store(settings.data, data_shards=settings.data_shards, region=settings.region)
    if store.info.data_shards != settings.data_shards:
        raise StoreFolderError(
            "open pod's folder", str(store.path),
            f"it has {store.info.data_shards} shards, the store {settings.data_shards}: "
            "remove what is in the folder, it is made anew",
        )  # fmt: skip
    settle_place(store, settings.ceph)
    if settings.master_key is not None:
        key = _master_key(settings.master_key)
        if store.master_key() != key:
            write_durably(store.master_key_path, key)
    return store


def _master_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise StoreFolderError("read master key", str(path), str(error)) from error
    if len(key) != MASTER_KEY_BYTES:
        raise StoreFolderError("read master key", str(path), f"must be {MASTER_KEY_BYTES} bytes")
    return key
