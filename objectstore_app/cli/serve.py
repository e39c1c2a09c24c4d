"""`objectstore serve`: settings, the data folder, the sockets, and the supervisor over it all."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from .. import __version__
from ..config.atlas import (
    GRACE_S_DEFAULT,
    INTERVAL_S_DEFAULT,
    RATE_MIB_DEFAULT,
    UPLOAD_DAYS_DEFAULT,
)
from ..config.ceph import CLIENT_DEFAULT
from ..config.errors import SettingsError
from ..config.settings import (
    COMPRESSIONS,
    ENCRYPTIONS,
    LISTEN_DEFAULT,
    LOG_FORMATS,
    REGION_DEFAULT,
    ServeSettings,
    read_file,
    serve_settings,
)
from ..core.errors import ObjectStoreError
from ..core.limits import DRAIN_TIMEOUT_S
from ..media.store import Store, open_store
from ..runtime import logging
from ..runtime.errors import StartError
from ..runtime.metrics import MetricsBoard
from ..runtime.server import bind_listeners, raise_descriptor_limit
from ..runtime.supervisor import ChildSpec, Supervisor
from ..runtime.tls import ServerTls, ensure_self_signed
from . import processes

STOP_MARGIN_S = 5.0
WRITER_STOP_TIMEOUT_S = 30.0
ATLAS_STOP_S = 10.0
WRITERS_STAGE, FRONT_ENDS_STAGE = 0, 1


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
@click.option("--cluster-listen", metavar="ADDR:PORT", help="Serve front ends of other nodes here.")
@click.option("--cluster-ca", metavar="FILE", help="Authority that the nodes' certificates are of.")
@click.option("--cluster-cert", metavar="FILE", help="This node's certificate between nodes.")
@click.option("--cluster-key", metavar="FILE", help="Its key.")
@click.option(
    "--upstream",
    metavar="HOST:PORT",
    help="Have no data here: serve the store of the node that has this --cluster-listen.",
)
@click.option(
    "--master-key", metavar="FILE", help="With --upstream: a copy of DIR/keys/master.key."
)
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
@click.option(
    "--atlas-grace",
    type=float,
    metavar="SECONDS",
    default=GRACE_S_DEFAULT,
    help="How long deleted bytes stay for who reads them; longer than the longest download.",
)
@click.option(
    "--atlas-rate",
    type=float,
    metavar="MIB",
    default=RATE_MIB_DEFAULT,
    help="MiB a second that Atlas reads and moves; 0: no limit.",
)
@click.option(
    "--upload-days",
    type=float,
    metavar="DAYS",
    default=UPLOAD_DAYS_DEFAULT,
    help="Abort multipart uploads that are older; 0: never.",
)
@click.option("--ceph-conf", metavar="FILE", help="Ceph's configuration; data lies in RADOS then.")
@click.option("--ceph-client", default=CLIENT_DEFAULT, help="The store's name in Ceph.")
@click.option("--ceph-pool", metavar="POOL[/NAMESPACE]", help="Its pool there.")
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
        settings = serve_settings(**values)  # type: ignore[arg-type]  # checked there
        logging.set_up(settings.log_format, "supervisor")
        run(settings)
    except ObjectStoreError as error:
        raise click.ClickException(str(error)) from error


def run(settings: ServeSettings) -> None:
    """Serve until a signal ends it. Raises: ObjectStoreError when it cannot start or live."""
    root_keys = first_administrator_keys(os.environ)
    raise_descriptor_limit()
    with contextlib.ExitStack() as held:
        store: Store | None = None
        if settings.data is not None:
            store = open_store(settings.data, region=settings.region)
            held.enter_context(store.lock("serve"))
        certificate, key = _certificate(settings, store)
        ServerTls(certificate, key)  # refuse a broken pair here, before anything runs
        listeners = bind_listeners(settings.listen.host, settings.listen.port, settings.workers)
        held.enter_context(_closing(listeners))
        port = listeners[0].getsockname()[1]
        board = MetricsBoard(slots=settings.workers + 4)
        front_ends = [
            processes.FrontEnd(
                settings=settings,
                store=store,
                board=board,
                listener=listener,
                listeners=tuple(listeners),
                certificate=certificate,
                key=key,
                root_keys=root_keys if number == 0 else None,
            )
            for number, listener in enumerate(listeners)
        ]
        supervisor = Supervisor(
            _children(settings, store, board, front_ends),
            board,
            on_ready=lambda: _announce(settings, port, certificate),
            on_stop=lambda: _close_all(listeners),
            housekeeping=lambda: _keep_certificate(settings, store),
        )
        supervisor.run()


def first_administrator_keys(environment: os._Environ[str]) -> tuple[str, str]:
    """Access and secret key given for the first administrator, both empty when none are.

    Raises: SettingsError when only one of them is there.
    """
    names = ("OBJECTSTORE_ROOT_ACCESS_KEY", "OBJECTSTORE_ROOT_SECRET_KEY")
    access, secret = (environment.get(name, "") for name in names)
    if bool(access) != bool(secret):
        missing = names[1] if access else names[0]
        raise SettingsError(missing, "not set", f"set both of {' and '.join(names)}, or neither")
    return access, secret


def _children(
    settings: ServeSettings,
    store: Store | None,
    board: MetricsBoard,
    front_ends: Sequence[processes.FrontEnd],
) -> list[ChildSpec]:
    drain_s = DRAIN_TIMEOUT_S + settings.drain_grace_s + STOP_MARGIN_S
    form = settings.log_format
    specs = []
    if store is not None:
        writer = processes.Writer(store, board, form, settings.ceph)
        stop_s = WRITER_STOP_TIMEOUT_S
        specs.append(ChildSpec("writer-0", "writer", WRITERS_STAGE, writer.main, stop_s))
        every_s = settings.atlas.interval_s
        if every_s and settings.ceph is None:  # Atlas works on files only, so far
            atlas = processes.Atlas(store, settings.atlas, form)
            specs.append(
                ChildSpec("atlas", "atlas", FRONT_ENDS_STAGE, atlas.main, ATLAS_STOP_S, every_s)
            )
        listen, tls = settings.cluster_listen, settings.cluster_tls
        if listen is not None and tls is not None:
            gateway = processes.Gateway(store, board, form, listen, tls, settings.ceph)
            specs.append(ChildSpec("gateway", "gateway", FRONT_ENDS_STAGE, gateway.main, drain_s))
    specs += [
        ChildSpec(f"front-end-{number}", "front-end", FRONT_ENDS_STAGE, front_end.main, drain_s)
        for number, front_end in enumerate(front_ends)
    ]
    return specs


def _certificate(settings: ServeSettings, store: Store | None) -> tuple[Path, Path]:
    """The certificate and its key: those given, else the store's own, made if need be."""
    if settings.tls is not None:
        return settings.tls
    if store is None:
        raise StartError(
            "--tls-cert", "not given", "--upstream has no folder for a certificate of its own"
        )
    return ensure_self_signed(
        store.tls,
        address=settings.listen.host,
        domains=settings.domains,
        now=datetime.datetime.now(datetime.UTC),
    )


def _keep_certificate(settings: ServeSettings, store: Store | None) -> None:
    """Renew a self-signed certificate in time; the front ends take it from its file."""
    try:
        _certificate(settings, store)
    except StartError as error:
        logging.event("certificate_not_renewed", reason=str(error))


def _announce(settings: ServeSettings, port: int, certificate: Path) -> None:
    host = settings.listen.host
    shown = f"[{host}]" if ":" in host else host
    trust = "" if settings.tls else f"   (self-signed: {certificate})"
    where = settings.data or f"none here; front ends of {settings.upstream}"
    click.echo(
        f"objectstore {__version__} is ready\n"
        f"  S3 endpoint   http://{shown}:{port}\n"
        f"                https://{shown}:{port}{trust}\n"
        f"  data folder   {where}"
    )


@contextlib.contextmanager
def _closing(listeners: Sequence[socket.socket]) -> Iterator[None]:
    try:
        yield
    finally:
        _close_all(listeners)


def _close_all(listeners: Sequence[socket.socket]) -> None:
    """Once the front ends close theirs as well, the port is free."""
    for listener in listeners:
        listener.close()
