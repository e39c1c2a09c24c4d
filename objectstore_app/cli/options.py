"""Options that several sub-commands have, with one name, one help and one environment variable."""

from __future__ import annotations

import click

json_output = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

data_folder = click.option(
    "--data",
    "folder",
    metavar="DIR",
    envvar="OBJECTSTORE_DATA",
    required=True,
    show_envvar=True,
    help="The store's folder.",
)
