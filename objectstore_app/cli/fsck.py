"""`objectstore fsck`: verify a data folder that no store runs on, or rebuild its views."""

from __future__ import annotations

import sys

import click
import msgspec

from ..atlas.fsck import Report, check
from ..config.ceph import ceph_access
from ..core.errors import ObjectStoreError
from .options import ceph_client, ceph_conf, data_folder, json_output

CLEAN, DAMAGED, NOT_CHECKED = 0, 1, 2


@click.command()
@data_folder
@click.option("--rebuild", is_flag=True, help="First make the views anew from the logs.")
@click.option(
    "--salvage",
    is_flag=True,
    help="Where a log is damaged, keep all that is good, and name what is lost.",
)
@ceph_conf
@ceph_client
@json_output
def fsck(
    folder: str,
    rebuild: bool,
    salvage: bool,
    ceph_conf: str | None,
    ceph_client: str,
    as_json: bool,
) -> None:
    """Verify the store in the folder DIR: logs, views, and every byte that objects name.

    The store must not be running. Exit status: 0 when all is well, 1 when something is damaged, 2
    when it could not be checked. With --rebuild the indexes are made again from the logs, which are
    the truth, before they are verified; it refuses where a log is damaged. --salvage goes on there:
    it keeps every good record and prints a line `lost: …` for each one that is not.
    """

    def progress(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    try:
        ceph = ceph_access(ceph_conf, ceph_client)
        report = check(folder, rebuild=rebuild, salvage=salvage, progress=progress, ceph=ceph)
    except ObjectStoreError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(NOT_CHECKED)
    click.echo(_json(report) if as_json else _text(report))
    sys.exit(CLEAN if report.clean else DAMAGED)


def _json(report: Report) -> str:
    fields = msgspec.to_builtins(report)
    return msgspec.json.format(msgspec.json.encode({**fields, "clean": report.clean})).decode()


def _text(report: Report) -> str:
    lines = [f"{each.severity}: {each.where}: {each.what}" for each in report.findings]
    if report.findings_left_out:
        lines.append(f"and {report.findings_left_out} more")
    lines += [f"rebuilt: {name}" for name in report.rebuilt]
    lines += [f"salvaged: {name}" for name in report.salvaged]
    lines.append(
        f"{report.store}: {'clean' if report.clean else 'DAMAGED'}; verified {report.records} "
        f"records, {report.extents} extents, {report.bytes_read} bytes"
    )
    return "\n".join(lines)
