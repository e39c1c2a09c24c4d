"""OperatorFiles and ConfigurationRun: what turns bare machines into an object store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
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
from objectstore_infra.provider.values import Plain, Record, has_unknown

LEAVE = "leave.yml"


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

    def changed(self, state: Record, inputs: Record) -> dict[str, OnChange]:
        """Also write files that are there no more, or say something else."""
        differing = super().changed(state, inputs)
        there = has_unknown(inputs) or all(
            path.is_file() and path.read_text(encoding="utf-8") == content
            for path, content in _contents(inputs).items()
        )
        return differing if there else differing | {"inventory": OnChange.UPDATE}

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
    for path, content in _contents(inputs).items():
        state_folder.write_private(path, content)


def _contents(inputs: Record) -> dict[Path, str]:
    folder = state_folder.store_folder(text(inputs, "store"))
    known = "".join(f"{ip} {key}\n" for ip, key in sorted(mapping(inputs, "hostKeys").items()))
    return {
        folder / state_folder.PRIVATE_KEY: text(inputs, "privateKey"),
        folder / state_folder.KNOWN_HOSTS: known,
        folder / state_folder.INVENTORY: _inventory_text(inputs),
    }


def _inventory_text(inputs: Record) -> str:
    described = inventory.with_keys(
        mapping(inputs, "inventory"), text(inputs, "accessKey"), text(inputs, "secretKey")
    )
    return json.dumps(described, indent=2, sort_keys=True) + "\n"


class ConfigurationRun(Handler):
    """One run of playbooks; it is repeated when anything that decides its outcome changed.

    What it leaves in the store's folder and others need, it hands on: `collects` are paths there,
    `files` says what they hold. `others` are machines, name → address, that the store may have and
    is to have no more: those that there are of them, whoever made them, leave in good order first.

    Where somebody else changed one of the files, as renewed certificates do, they are handed on
    anew without a run. Where one is gone, the playbooks make it, or say what is to be done.
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
        "others": Input(dict, OnChange.UPDATE),
        "owner": Input(str, OnChange.UPDATE),
    }
    outputs: ClassVar = {"files": Output(secret=True)}

    def changed(self, state: Record, inputs: Record) -> dict[str, OnChange]:
        """Also hand on files that changed since, or went."""
        differing = super().changed(state, inputs)
        return differing if _handed_on(state, inputs) else differing | {"collects": OnChange.UPDATE}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Configure and check the nodes."""
        first = texts(inputs, "playbooks")[0]
        return f"{text(inputs, 'store')}/{first}", self._run(context, inputs)

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Let leave who leaves, then configure and check the nodes again, unless only the files
        are to be handed on.
        """
        store, paths = text(inputs, "store"), texts(inputs, "collects")
        only_files = not super().changed(state, inputs) and not _handed_on(state, inputs)
        if only_files and not _missing(store, paths):
            return {"files": _collected(store, paths)}
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
        if leaving := _leaving(context, inputs):
            context.say(f"leaving: {', '.join(leaving)}")
            ansible_run.run_playbook(LEAVE, store, context.say, {"leaving": leaving})
        for playbook in texts(inputs, "playbooks"):
            ansible_run.run_playbook(playbook, store, context.say)
        return {"files": _collected(store, texts(inputs, "collects"))}


def _leaving(context: Context, inputs: Record) -> dict[str, Plain]:
    """Return the others that there are, as made before or left by a run that was interrupted."""
    found = {name: context.substrate.read_instance(name) for name in mapping(inputs, "others")}
    return {
        name: address
        for name, address in mapping(inputs, "others").items()
        if (instance := found[name]) and instance.owner == text(inputs, "owner")
    }


def _handed_on(state: Record, inputs: Record) -> bool:
    store, paths = text(inputs, "store"), texts(inputs, "collects")
    return not _missing(store, paths) and state.get("files") == _collected(store, paths)


def _missing(store: str, paths: list[str]) -> list[str]:
    folder = state_folder.store_folder(store)
    return [path for path in paths if not (folder / path).is_file()]


def _collected(store: str, paths: list[str]) -> dict[str, str]:
    folder = state_folder.store_folder(store)
    if missing := _missing(store, paths):
        raise InfraError(
            f"the playbooks did not leave {', '.join(missing)} in {folder}",
            hint="run it again; a role that was skipped makes them",
        )
    return {path: (folder / path).read_text(encoding="utf-8") for path in paths}
