"""What the sub-commands over the admin API share: the options that say which store, and as whom."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import click

from .admin_client import AdminClient, Json, find_credentials

DEFAULT_ENDPOINT = "http://127.0.0.1:7200"


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


def connected(command: Callable[..., None]) -> Callable[..., None]:
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


def json_object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise click.ClickException("the answer is not what an object store would say")
    return value


def json_objects(value: Json) -> list[dict[str, Json]]:
    return [json_object(one) for one in value] if isinstance(value, list) else []
