"""`objectstore user`: add, list and remove people of a running store through its admin API."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO
from urllib.parse import quote

import click

from ..core.ids import UserId
from ..iam.identity import NewIdentity, keys_csv
from .admin_client import AdminClient, Json, find_credentials

DEFAULT_ENDPOINT = "http://127.0.0.1:7200"
USERS = "/_admin/v1/users"


@dataclass(frozen=True, slots=True)
class Connection:
    """How the sub-commands reach the store; keys are looked for only when one runs."""

    endpoint: str
    admin_access_key: str | None
    admin_secret_key: str | None
    profile: str | None
    region: str
    ca: str | None
    insecure: bool

    def client(self) -> AdminClient:
        keys = find_credentials(self.admin_access_key, self.admin_secret_key, self.profile)
        return AdminClient(
            self.endpoint, keys, region=self.region, ca=self.ca, insecure=self.insecure
        )


def _connected(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which store, and as whom; the command gets them as `connection`."""

    def run(
        *,
        endpoint: str,
        admin_access_key: str | None,
        admin_secret_key: str | None,
        profile: str | None,
        region: str,
        ca: str | None,
        insecure: bool,
        **rest: str | bool | None,
    ) -> None:
        connection = Connection(
            endpoint, admin_access_key, admin_secret_key, profile, region, ca, insecure
        )
        command(connection=connection, **rest)

    wrapped = functools.update_wrapper(run, command)
    for option in reversed(_CONNECTION_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_CONNECTION_OPTIONS = (
    click.option(
        "--endpoint",
        envvar="OBJECTSTORE_ENDPOINT",
        default=DEFAULT_ENDPOINT,
        show_default=True,
        show_envvar=True,
        help="The store's address.",
    ),
    click.option("--admin-access-key", help="An administrator's access key."),
    click.option("--admin-secret-key", help="Its secret key (the environment is safer)."),
    click.option("--profile", help="A profile of ~/.aws/credentials to take keys from."),
    click.option(
        "--region",
        envvar="OBJECTSTORE_REGION",
        default="us-east-1",
        show_default=True,
        help="The store's region.",
    ),
    click.option(
        "--ca", type=click.Path(exists=True, dir_okay=False), help="Trust this certificate."
    ),
    click.option("--insecure", is_flag=True, help="Do not verify the certificate."),
)


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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_connected
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
        added = _object(client.call("POST", USERS, asked))
    else:
        with _private_file(csv_file) as file:
            added = _object(client.call("POST", USERS, asked))
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_connected
def list_(as_json: bool, connection: Connection) -> None:
    """List everybody."""
    people = connection.client().call("GET", USERS)
    if as_json:
        click.echo(json.dumps(people, indent=2))
        return
    rows = [_object(person) for person in people] if isinstance(people, list) else []
    for person in rows:
        role = "administrator" if person.get("administrator") else "user"
        keys = person.get("access_keys")
        shown = ",".join(map(str, keys)) if isinstance(keys, list) else ""
        click.echo(f"{person['email']}\t{person['name']}\t{role}\t{shown}\t{person['id']}")


@user.command()
@click.argument("who")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_connected
def remove(who: str, as_json: bool, connection: Connection) -> None:
    """Remove a person, named by e-mail address, owner id or access key.

    The keys stop working at once. The person's buckets stay.
    """
    client = connection.client()
    removed = _object(client.call("DELETE", f"{USERS}/{quote(who, safe='')}"))
    click.echo(json.dumps(removed, indent=2) if as_json else f"removed {removed['email']}")


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise click.ClickException("the answer is not what an object store would say")
    return value


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
