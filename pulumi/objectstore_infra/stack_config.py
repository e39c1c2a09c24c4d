"""The one place that reads the stack's configuration."""

from __future__ import annotations

import json

import pulumi
from pulumi.runtime import config as runtime_config

from objectstore_infra import spec
from objectstore_infra.artefacts import source
from objectstore_infra.errors import SpecError
from objectstore_infra.spec import StoreSpec, Value

STRUCTURED = ("network", "custom")


def read_spec() -> StoreSpec:
    """Return the specification, or end the program with all that is wrong with it."""
    project = pulumi.get_project()
    values: dict[str, Value] = {
        key.removeprefix(f"{project}:"): value
        for key, value in runtime_config.CONFIG.get().items()
        if key.startswith(f"{project}:")
    }
    for key in STRUCTURED:
        if key in values:
            values[key] = _structured(values[key])
    try:
        return spec.parse(values, default_version=source.content_version())
    except SpecError as refused:
        raise pulumi.RunError(str(refused)) from refused


def _structured(value: Value) -> Value:
    try:
        return json.loads(str(value))
    except ValueError:
        return value  # `spec.parse` says what it should have been
