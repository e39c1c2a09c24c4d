"""`objectstore serve`: reads the options, then gives its process over to what serves."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..config.atlas import INTERVAL_S_DEFAULT
from ..config.errors import SettingsError
from ..config.settings import (
    COMPRESSIONS,
    ENCRYPTIONS,
    LISTEN_DEFAULT,
    LOG_FORMATS,
    REGION_DEFAULT,
    first_administrator_keys,
    read_file,
    serve_settings,
)
from ..core.errors import ObjectStoreError
from . import options
from .processes.replacing import replace_process


def _use_file(context: click.Context, _option: click.Parameter, path: Path | None) -> None:
    """Let the file's values stand in for the defaults, before other options are read."""
    if path is None:
        return
    try:
        context.default_map = read_file(path)
    except SettingsError as error:
        raise click.UsageError(str(error), context) from error


@click.command(context_settings={"auto_envvar_prefix": "OBJECTSTORE", "show_default": True})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_use_file,
    expose_value=False,
    is_eager=True,
    help="TOML file with any of these settings, underscores for hyphens.",
)
@click.option("--data", metavar="DIR", help="The store's folder; made when missing.")
@click.option(
    "--listen", metavar="ADDR:PORT", default=LISTEN_DEFAULT, help="Where to serve HTTP and HTTPS."
)
@click.option(
    "--domain",
    metavar="NAME",
    multiple=True,
    help="Serve buckets as BUCKET.NAME too; may be given several times.",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    show_default="one for each processor, 8 at most",
    help="Front-end processes.",
)
@click.option("--region", default=REGION_DEFAULT, help="The region that clients sign for.")
@click.option(
    "--tls-cert",
    metavar="FILE",
    show_default="a self-signed one, made in DIR/tls",
    help="Certificate chain (PEM); a replaced file is used without a restart.",
)
@click.option("--tls-key", metavar="FILE", help="Its key (PEM).")
@click.option(
    "--encryption",
    type=click.Choice(ENCRYPTIONS),
    default="none",
    help="Encrypt objects in buckets that have no default encryption of their own.",
)
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    default="none",
    help="Compress objects in buckets that are not set otherwise.",
)
@click.option(
    "--atlas-interval",
    type=float,
    metavar="SECONDS",
    default=INTERVAL_S_DEFAULT,
    help="How often Atlas looks for garbage and other work; 0: only `objectstore atlas run`.",
)
@options.atlas_grace
@options.atlas_rate
@options.upload_days
@options.ceph_conf
@options.ceph_client
@click.option(
    "--ceph-pool",
    metavar="POOL[,OPEN[,COLD]][/NAMESPACE]",
    help="Its pool there, or those of logs, of chunks and of old chunks.",
)
@click.option("--log-format", type=click.Choice(LOG_FORMATS), default="text", help="Form of logs.")
@click.option(
    "--drain-grace",
    type=float,
    metavar="SECONDS",
    default=0.0,
    help="How long to be not ready, but serving, before the port closes.",
)
def serve(**values: object) -> None:
    """Run the object store on this machine, over the folder DIR.

    Every option can be given as an environment variable, OBJECTSTORE_DATA for --data and so on, or
    in a file. Logs go to standard error, one line a request.

    The first administrator's keys are taken from OBJECTSTORE_ROOT_ACCESS_KEY and
    OBJECTSTORE_ROOT_SECRET_KEY; without them they are made and printed once, at the first start.

    SIGTERM and SIGINT end it in good order: requests under way are answered first. A second signal
    ends it at once; what was acknowledged is safe either way.
    """
    try:
        serve_settings(**values)  # type: ignore[arg-type]  # checked there
        first_administrator_keys(os.environ)
    except ObjectStoreError as error:
        raise click.ClickException(str(error)) from error
    replace_process("opening", values, sys.argv[1:])
