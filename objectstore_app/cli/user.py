"""`objectstore user`: add, list and remove people of a running store through its admin API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO
from urllib.parse import quote

import click

from ..core.ids import UserId
from ..iam.identity import NewIdentity, keys_csv
from .admin_client import Json
from .connected import Connection, connected, json_object, json_objects
from .options import json_output

USERS = "/_admin/v1/users"


@click.group()
def user() -> None:
    """Add, list and remove people of a running store.

    The keys of an administrator are taken from --admin-access-key and --admin-secret-key, from
    OBJECTSTORE_ACCESS_KEY and OBJECTSTORE_SECRET_KEY, from AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY, or from a profile.
    """


@user.command()
@click.argument("email")
@click.option("--name", default="", help="The name shown to people; the address if left out.")
@click.option("--access-key", default="", help="Use this access key instead of a new one.")
@click.option("--secret-key", default="", help="The secret key that goes with --access-key.")
@click.option("--administrator", is_flag=True, help="May manage people, too.")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False), help="Write the keys there.")
@json_output
@connected
def add(
    email: str,
    name: str,
    access_key: str,
    secret_key: str,
    administrator: bool,
    csv_file: str | None,
    as_json: bool,
    connection: Connection,
) -> None:
    """Add a person by e-mail address; prints the keys, this once."""
    asked: Json = {
        "email": email,
        "name": name,
        "access_key": access_key,
        "secret_key": secret_key,
        "administrator": administrator,
    }
    client = connection.client()
    if csv_file is None:
        added = json_object(client.call("POST", USERS, asked))
    else:
        with _private_file(csv_file) as file:
            added = json_object(client.call("POST", USERS, asked))
            file.write(_csv_of(added))
    if as_json:
        click.echo(json.dumps(added, indent=2))
        return
    click.echo(f"id          {added['id']}")
    click.echo(f"email       {added['email']}")
    click.echo(f"access key  {added['access_key']}")
    if csv_file is None:
        click.echo(f"secret key  {added['secret_key']}")
        click.echo("The secret key is not shown again.")
    else:
        click.echo(f"The secret key is in {csv_file}; it is not shown again.")


@user.command(name="list")
@json_output
@connected
def list_(as_json: bool, connection: Connection) -> None:
    """List everybody."""
    people = connection.client().call("GET", USERS)
    if as_json:
        click.echo(json.dumps(people, indent=2))
        return
    for person in json_objects(people):
        role = "administrator" if person.get("administrator") else "user"
        keys = person.get("access_keys")
        shown = ",".join(map(str, keys)) if isinstance(keys, list) else ""
        click.echo(f"{person['email']}\t{person['name']}\t{role}\t{shown}\t{person['id']}")


@user.command()
@click.argument("who")
@json_output
@connected
def remove(who: str, as_json: bool, connection: Connection) -> None:
    """Remove a person, named by e-mail address, owner id or access key.

    The keys stop working at once. The person's buckets stay.
    """
    client = connection.client()
    removed = json_object(client.call("DELETE", f"{USERS}/{quote(who, safe='')}"))
    click.echo(json.dumps(removed, indent=2) if as_json else f"removed {removed['email']}")


def _csv_of(added: dict[str, Json]) -> str:
    return keys_csv(
        NewIdentity(
            UserId(str(added["id"])),
            str(added["email"]),
            str(added["name"]),
            str(added["access_key"]),
            str(added["secret_key"]),
        )
    )


@contextmanager
def _private_file(path: str) -> Iterator[TextIO]:
    """A new file that only its owner can read, opened before anybody is added, so that keys are
    never made and then lost; removed again when adding fails.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.ClickException(
            f"{path}: {error.strerror or error}; nothing was changed"
        ) from error
    try:
        with os.fdopen(descriptor, "w", newline="") as file:
            yield file
    except click.ClickException:
        os.unlink(path)
        raise
