"""`objectstore key`: the key store of a running store, through its admin API."""

from __future__ import annotations

import json
from urllib.parse import quote

import click

from .admin_client import Json
from .connected import Connection, connected, json_object, json_objects
from .options import json_output

KEYS = "/_admin/v1/keys"


@click.group()
def key() -> None:
    """Manage the keys that encrypt objects.

    A key has versions: the newest one wraps the data keys of what is written, the others open what
    they wrapped. The key `default` is made when it is first needed.
    """


@key.command()
@click.argument("name")
@json_output
@connected
def add(name: str, as_json: bool, connection: Connection) -> None:
    """Add a key, for clients to name in x-amz-server-side-encryption-aws-kms-key-id."""
    _show(connection.client().call("POST", KEYS, {"name": name}), as_json=as_json)


@key.command(name="list")
@json_output
@connected
def list_(as_json: bool, connection: Connection) -> None:
    """List keys and versions, and how many data keys each version wraps."""
    held = connection.client().call("GET", KEYS)
    if as_json:
        click.echo(json.dumps(held, indent=2))
        return
    for one in json_objects(held):
        _show(one, as_json=False)


@key.command()
@click.argument("name")
@json_output
@connected
def rotate(name: str, as_json: bool, connection: Connection) -> None:
    """Add a version, which wraps from here on.

    What older versions wrapped is wrapped anew in the background, without touching the objects'
    bytes.
    """
    answer = connection.client().call("POST", f"{KEYS}/{quote(name, safe='')}/rotate")
    _show(answer, as_json=as_json)


@key.command()
@click.argument("name")
@click.argument("version", type=int)
@json_output
@connected
def retire(name: str, version: int, as_json: bool, connection: Connection) -> None:
    """Forget a version for good; refused while it is active or wraps anything."""
    target = f"{KEYS}/{quote(name, safe='')}/versions/{version}"
    _show(connection.client().call("DELETE", target), as_json=as_json)


def _show(answer: Json, *, as_json: bool) -> None:
    one = json_object(answer)
    if as_json:
        click.echo(json.dumps(one, indent=2))
        return
    for version in json_objects(one["versions"]):
        role = "active" if version["active"] else "old"
        click.echo(
            f"{one['name']}\t{version['id']}\t{role}\t{version['created']}\t"
            f"{version['data_keys']} data keys"
        )
