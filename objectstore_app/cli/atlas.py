"""`objectstore atlas`: run its passes now, or show what it did and found."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import click
import msgspec

from ..atlas.pace import Pace, lowest_priority
from ..atlas.passes import PASSES, run_passes
from ..atlas.state import State, load_state
from ..config.atlas import AtlasSettings, atlas_settings
from ..config.ceph import CephAccess, ceph_access
from ..core.clock import now_ms
from ..core.errors import ObjectStoreError
from ..media.opened import open_media
from ..media.place import placed
from ..media.store import open_store
from . import options

WELL, DAMAGED, NOT_DONE = 0, 1, 2


@click.group()
def atlas() -> None:
    """Give space back, verify what is stored, clean up.

    `objectstore serve` does all this by itself, at the lowest priority.
    """


@atlas.command(context_settings={"auto_envvar_prefix": "OBJECTSTORE", "show_default": True})
@options.data_folder
@click.option(
    "--pass",
    "names",
    type=click.Choice(PASSES),
    multiple=True,
    show_default="all of them",
    help="Run only this; may be given several times.",
)
@options.atlas_grace
@options.atlas_rate
@options.upload_days
@options.ceph_conf
@options.ceph_client
@options.json_output
def run(
    folder: str,
    names: tuple[str, ...],
    atlas_grace: float,
    atlas_rate: float,
    upload_days: float,
    ceph_conf: str | None,
    ceph_client: str,
    as_json: bool,
) -> None:
    """Run Atlas' passes now, each to its end, over the running store in the folder DIR.

    Exit status: 0 when all went well, 1 when something stored is damaged, 2 when a pass could not
    be done.
    """
    try:
        settings = atlas_settings(
            interval=0, grace=atlas_grace, rate=atlas_rate, upload_days=upload_days
        )
        lowest_priority()
        ceph = ceph_access(ceph_conf, ceph_client)
        state = asyncio.run(_run(Path(folder), settings, names or PASSES, ceph))
    except ObjectStoreError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(NOT_DONE)
    _show(state, as_json=as_json)
    asked = [state.passes.get(name) for name in names or PASSES]
    done = all(last is not None and not last.stopped_by for last in asked)
    sys.exit(_code(state) if done else NOT_DONE)


@atlas.command()
@options.data_folder
@options.json_output
def status(folder: str, as_json: bool) -> None:
    """Show what Atlas did and found in the folder DIR.

    Exit status: 0 when nothing is damaged, 1 when something is, 2 when there is no store.
    """
    try:
        state = load_state(open_store(folder, create=False))
    except ObjectStoreError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(NOT_DONE)
    _show(state, as_json=as_json)
    sys.exit(_code(state))


async def _run(
    folder: Path, settings: AtlasSettings, names: tuple[str, ...], ceph: CephAccess | None
) -> State:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    store = open_store(folder, create=False)
    pace = Pace(settings.bytes_per_s, stop=stop)
    with closing(open_media(store, placed(store, ceph))) as media:
        return await run_passes(store, media, settings, names=names, pace=pace, now_ms=now_ms)


def _code(state: State) -> int:
    return DAMAGED if state.damage else WELL


def _show(state: State, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(state)).decode())
        return
    for name, last in state.passes.items():
        ended = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.ended_ms / 1000))
        how = f", stopped: {last.stopped_by}" if last.stopped_by else ""
        how += f", limited: {last.limited_by}" if last.limited_by else ""
        click.echo(f"{name:<8} {ended}, took {last.took_s:.1f} s{how}")
    for name, count in sorted(state.counters.items()):
        click.echo(f"{name:<18} {count}")
    if state.scrub.stage:
        click.echo(f"scrub is in shard {state.scrub.shard}, {state.scrub.stage}")
    click.echo(f"scrubs completed   {state.scrubs_completed}")
    for one in state.damage:
        click.echo(f"DAMAGED: {one.where}: {one.what}")
    if state.damage_left_out:
        click.echo(f"and {state.damage_left_out} more")
