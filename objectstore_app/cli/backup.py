"""`objectstore backup`: keep the operator's side of a deployed store, and bring it back.

The work is `objectstore_infra.backup`'s, which is loaded only when a command runs. Archives are
sealed with the passphrase in OBJECTSTORE_BACKUP_PASSPHRASE, or in the file that
OBJECTSTORE_BACKUP_PASSPHRASE_FILE names.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from .options import json_output
from .stack import INFRA, deployment_package


@click.group()
def backup() -> None:
    """Keep what cannot be made anew of a deployed store, and bring it back.

    One archive holds the stack's state with the master key, the passphrase that opens it, the
    store's authorities and keys, its description, and the newest snapshot of Kubernetes' etcd.
    Objects, buckets and people are not in it: they lie in Ceph. `make backup` takes the snapshot
    first.

    Archives are sealed with the passphrase in $OBJECTSTORE_BACKUP_PASSPHRASE, or in the file that
    $OBJECTSTORE_BACKUP_PASSPHRASE_FILE names. Keep it apart from them.
    """


@backup.command()
@click.argument("store")
@click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path),
    help="The archive.  [default: backups/STORE-TIME.backup in the state folder]",
)  # fmt: skip
@json_output
def write(store: str, file: Path | None, as_json: bool) -> None:
    """Write a backup of STORE as it is on this machine, and read it again."""
    backups, folders = deployment_package("backup"), deployment_package("state_folder")
    taken = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    with _refusals():
        secret = deployment_package("backup_seal").given_passphrase()
        target = file or folders.state_folder() / "backups" / f"{store}-{taken}.backup"
        listing = backups.write(store, INFRA, taken, secret, target)
    if as_json:
        click.echo(json.dumps({"file": str(target), **_told(listing)}))
        return
    click.echo(f"{target}: {len(listing.files)} files of {store}, stack {listing.stack}")


@backup.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_output
def verify(file: Path, as_json: bool) -> None:
    """Open the archive FILE, check all of it, and list what it holds."""
    backups = deployment_package("backup")
    with _refusals():
        listing = backups.read(file, deployment_package("backup_seal").given_passphrase()).listing
    if as_json:
        click.echo(json.dumps(_told(listing)))
        return
    click.echo(
        f"store {listing.store}, stack {listing.stack}, release {listing.version}, "
        f"taken {listing.taken}"
    )
    for name, digest in listing.files.items():
        click.echo(f"  {digest[:16]}  {name}")


@backup.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_output
def restore(file: Path, as_json: bool) -> None:
    """Put back what the archive FILE holds, on this machine or another one.

    Files that are there with other contents are never written over: they are named, and nothing
    is written. The nodes are not touched.
    """
    backups = deployment_package("backup")
    with _refusals():
        opened = backups.read(file, deployment_package("backup_seal").given_passphrase())
        written = backups.restore(opened, INFRA)
    listing = opened.listing
    if as_json:
        click.echo(json.dumps({"written": [str(path) for path in written], **_told(listing)}))
        return
    click.echo(f"{len(written)} of {len(listing.files)} files put back, the others were there")
    click.echo(
        f"next: make up STACK={listing.stack}, with release {listing.version} it changes nothing"
    )


# The deployment's own type, which cannot be named here: it is loaded when it is needed.
def _told(listing: object) -> dict[str, object]:
    names = ("store", "stack", "project", "version", "taken", "files")
    return {name: getattr(listing, name) for name in names}


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the deployment side refuses into the command's error."""
    try:
        yield
    except deployment_package("errors").InfraError as error:
        raise click.ClickException(str(error)) from error
