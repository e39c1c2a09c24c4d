"""`objectstore bucket`: what a bucket of a running store is set to, through its admin API."""

from __future__ import annotations

import json
from urllib.parse import quote

import click

from .admin_client import Json
from .connected import Connection, connected, json_object
from .options import json_output

BUCKETS = "/_admin/v1/buckets"


@click.group()
def bucket() -> None:
    """Show buckets, set their compression."""


@bucket.command()
@click.argument("name")
@json_output
@connected
def show(name: str, as_json: bool, connection: Connection) -> None:
    """Show what a bucket holds and is set to."""
    _show(connection.client().call("GET", _target(name)), as_json=as_json)


@bucket.command(name="set")
@click.argument("name")
@click.option(
    "--compression",
    type=click.Choice(("zstd", "none", "default")),
    required=True,
    help="What becomes of objects written from now on; default is what the store runs with.",
)
@json_output
@connected
def set_(name: str, compression: str, as_json: bool, connection: Connection) -> None:
    """Set a bucket's compression. Objects that are there stay as they are."""
    answer = connection.client().call("PATCH", _target(name), {"compression": compression})
    _show(answer, as_json=as_json)


def _target(name: str) -> str:
    return f"{BUCKETS}/{quote(name, safe='')}"


def _show(answer: Json, *, as_json: bool) -> None:
    one = json_object(answer)
    if as_json:
        click.echo(json.dumps(one, indent=2))
        return
    for field, value in one.items():
        click.echo(f"{field.replace('_', ' '):<12}{value}")
