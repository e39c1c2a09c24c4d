"""OperatorFiles and ConfigurationRun: what turns bare machines into an object store."""

from __future__ import annotations

import json
import shutil
from typing import ClassVar

from objectstore_infra import ansible_run, bundle, inventory, state_folder
from objectstore_infra.artefacts import source
from objectstore_infra.errors import InfraError
from objectstore_infra.provider.handler import (
    Context,
    Found,
    Handler,
    Input,
    OnChange,
    Output,
    mapping,
    text,
    texts,
)
from objectstore_infra.provider.values import Record


class OperatorFiles(Handler):
    """The store's folder on the operator's side: inventory, key, known hosts."""

    type_name = "OperatorFiles"
    inputs: ClassVar = {
        "store": Input(str),
        "inventory": Input(dict, OnChange.UPDATE),
        "accessKey": Input(str, OnChange.UPDATE, secret=True),
        "secretKey": Input(str, OnChange.UPDATE, secret=True),
        "privateKey": Input(str, OnChange.UPDATE, secret=True),
        "hostKeys": Input(dict, OnChange.UPDATE),
    }

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Write the files."""
        _write(inputs)
        return text(inputs, "store"), {}

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """See whether the files are there and as written."""
        folder = state_folder.store_folder(text(state, "store"))
        try:
            written = (folder / state_folder.INVENTORY).read_text(encoding="utf-8")
            private_key = (folder / state_folder.PRIVATE_KEY).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        seen: Record = {"privateKey": private_key}
        if written != _inventory_text(state):
            seen["inventory"] = {}
        return Found(text(state, "store"), state | seen)

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Write the files anew."""
        _write(inputs)
        return {}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Remove the store's folder."""
        shutil.rmtree(state_folder.store_folder(resource_id), ignore_errors=True)


def _write(inputs: Record) -> None:
    folder = state_folder.store_folder(text(inputs, "store"))
    state_folder.write_private(folder / state_folder.PRIVATE_KEY, text(inputs, "privateKey"))
    known = "".join(f"{ip} {key}\n" for ip, key in sorted(mapping(inputs, "hostKeys").items()))
    state_folder.write_private(folder / state_folder.KNOWN_HOSTS, known)
    state_folder.write_private(folder / state_folder.INVENTORY, _inventory_text(inputs))


def _inventory_text(inputs: Record) -> str:
    described = inventory.with_keys(
        mapping(inputs, "inventory"), text(inputs, "accessKey"), text(inputs, "secretKey")
    )
    return json.dumps(described, indent=2, sort_keys=True) + "\n"


class ConfigurationRun(Handler):
    """One run of playbooks; it is repeated when anything that decides its outcome changed.

    What it leaves in the store's folder and others need, it hands on: `collects` are paths there,
    `files` says what they hold.
    """

    type_name = "ConfigurationRun"
    inputs: ClassVar = {
        "store": Input(str),
        "playbooks": Input(list, OnChange.UPDATE),
        "collects": Input(list, OnChange.UPDATE),
        "inventoryHash": Input(str, OnChange.UPDATE),
        "playbooksHash": Input(str, OnChange.UPDATE),
        "version": Input(str, OnChange.UPDATE),
        "machines": Input(dict, OnChange.UPDATE),
    }
    outputs: ClassVar = {"files": Output(secret=True)}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Configure and check the nodes."""
        first = texts(inputs, "playbooks")[0]
        return f"{text(inputs, 'store')}/{first}", self._run(context, inputs)

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Configure and check the nodes again."""
        return self._run(context, inputs)

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """What a run made goes with the machines."""

    @staticmethod
    def _run(context: Context, inputs: Record) -> Record:
        version, store = text(inputs, "version"), text(inputs, "store")
        if source.MARK in version:
            if version != source.content_version():
                raise InfraError(
                    f"the source tree is no longer {version}: it was edited since this run began",
                    hint="run it again",
                )
            bundle.build(report=context.say)
        for playbook in texts(inputs, "playbooks"):
            ansible_run.run_playbook(playbook, store, context.say)
        return {"files": _collected(store, texts(inputs, "collects"))}


def _collected(store: str, paths: list[str]) -> dict[str, str]:
    folder = state_folder.store_folder(store)
    missing = [path for path in paths if not (folder / path).is_file()]
    if missing:
        raise InfraError(
            f"the playbooks did not leave {', '.join(missing)} in {folder}",
            hint="run it again; a role that was skipped makes them",
        )
    return {path: (folder / path).read_text(encoding="utf-8") for path in paths}
