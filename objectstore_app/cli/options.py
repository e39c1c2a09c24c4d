"""Options that several sub-commands have, with one name, one help and one environment variable."""

from __future__ import annotations

import click

from ..config.atlas import GRACE_S_DEFAULT, RATE_MIB_DEFAULT, UPLOAD_DAYS_DEFAULT
from ..config.ceph import CLIENT_DEFAULT

json_output = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

data_folder = click.option(
    "--data",
    "folder",
    metavar="DIR",
    envvar="OBJECTSTORE_DATA",
    required=True,
    show_envvar=True,
    help="The store's folder.",
)

atlas_grace = click.option(
    "--atlas-grace",
    type=float,
    metavar="SECONDS",
    default=GRACE_S_DEFAULT,
    help="How long deleted bytes stay for who reads them; longer than the longest download.",
)

atlas_rate = click.option(
    "--atlas-rate",
    type=float,
    metavar="MIB",
    default=RATE_MIB_DEFAULT,
    help="MiB a second that Atlas reads and moves; 0: no limit.",
)

upload_days = click.option(
    "--upload-days",
    type=float,
    metavar="DAYS",
    default=UPLOAD_DAYS_DEFAULT,
    help="Abort multipart uploads that are older; 0: never.",
)

ceph_conf = click.option(
    "--ceph-conf",
    metavar="FILE",
    envvar="OBJECTSTORE_CEPH_CONF",
    help="Ceph's configuration, where the data lies in RADOS.",
)

ceph_client = click.option(
    "--ceph-client",
    envvar="OBJECTSTORE_CEPH_CLIENT",
    default=CLIENT_DEFAULT,
    help="The store's name in Ceph.",
)
