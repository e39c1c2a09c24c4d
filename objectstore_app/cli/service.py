"""`objectstore service NAME`: one pod of a store that runs on many machines.

`serve` runs every service of a store on one machine; a deployment runs each as pods. A service is a
row of `SERVICES`: its module among the processes, which says what children its pod has.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..config.service import service_settings
from ..core.errors import ObjectStoreError
from .processes.replacing import replace_process

SERVICES: dict[str, str] = {
    "metadata": "shard_pod",
    "iam": "shard_pod",
    "object-controller": "object_controller",
    "atlas": "atlas_pod",
}


@click.command()
@click.argument("name", type=click.Choice(sorted(SERVICES)))
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The pod's settings (TOML).",
)
def service(name: str, config: Path) -> None:
    """Run one service of a deployed store, as a pod does.

    POD_NAME and POD_IP say which pod it is. SIGTERM hands over what others can take, then ends it.
    """
    try:
        service_settings(config, os.environ)
    except ObjectStoreError as error:
        raise click.ClickException(str(error)) from error
    replace_process(
        "pod", {"service": name, "module": SERVICES[name], "config": str(config)}, sys.argv[1:]
    )
