"""The two systems on one Ceph cluster: our store, and radosgw, Ceph's own gateway for S3.

radosgw is set up as well as its documentation knows: logs of operations off, and `tcp_nodelay`, for
without it each small GET waits 40 ms for an acknowledgement. Its pools have as many placement
groups as ours. It comes from Debian, in the same version as the cluster.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.outcome import CaseError
from tests.bench.signing import ACCESS_KEY, SECRET_KEY
from tests.bench.systems import OURS, Launch, System, launch_ours, our_binary
from tests.ceph.cluster import POOLS, CephCluster
from tests.ceph.host import install, obstacle

RGW = "radosgw"
RGW_PACKAGE = ("radosgw",)
RGW_CLIENT = "client.rgw.bench"
RGW_CAPS = ["mon", "allow rw", "mgr", "allow rw", "osd", "allow rwx"]
# Without its pools made first, a PUT into one that cannot be made answers 416.
RGW_POOLS = (
    ".rgw.root",
    *(f"default.rgw.{name}" for name in ("log", "control", "meta")),
    *(f"default.rgw.buckets.{name}" for name in ("index", "data", "non-ec")),
)
PG_NUM = 8
SETUP_TIMEOUT_S = 120
Starter = Callable[[str, Path, int], Launch]


@dataclass(frozen=True)
class OnCluster(System):
    """A system whose data lies in the cluster; its folder holds nothing that lasts."""

    def version(self, binary: str) -> str:
        if self.name == OURS:
            return super().version(binary)
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.split()[2]


def obtain_radosgw() -> str:
    """Its program, installed from Debian where it is missing. Raises: CaseError."""
    if shutil.which(RGW) is None:
        if why := obstacle(RGW_PACKAGE):
            raise CaseError(f"{RGW} is missing, and {why}")
        install(RGW_PACKAGE)
    return shutil.which(RGW) or RGW


def systems(cluster: CephCluster) -> list[tuple[OnCluster, str]]:
    """Each with its program. The cluster must run; radosgw's user and pools are made in it."""
    program = obtain_radosgw()
    prepare_radosgw(cluster)
    return [
        (OnCluster(OURS, "one write of three replicas a commit", ours_on(cluster)), our_binary()),
        (OnCluster(RGW, "three replicas of object and index", radosgw_on(cluster)), program),
    ]


def ours_on(cluster: CephCluster) -> Starter:
    options = (
        *("--ceph-conf", str(cluster.conf), "--ceph-client", "client.store"),
        *("--ceph-pool", ",".join(POOLS)),
    )

    def launch(binary: str, folder: Path, port: int) -> Launch:
        return launch_ours(binary, folder, port, options=options)

    return launch


def radosgw_on(cluster: CephCluster) -> Starter:
    def launch(binary: str, folder: Path, port: int) -> Launch:
        frontend = f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
        return Launch(
            [
                *(binary, "-f", "-c", str(cluster.conf), "-n", RGW_CLIENT),
                *("--rgw-frontends", frontend, "--log-file", str(folder / "radosgw.log")),
                *("--rgw-data", str(folder), "--rgw-enable-ops-log=false"),
                *("--rgw-enable-usage-log=false", "--debug-rgw=0", "--debug-ms=0"),
            ],
            {},
        )

    return launch


def prepare_radosgw(cluster: CephCluster) -> None:
    """Its key, its pools and the bench's user."""
    made = cluster.command(prefix="auth get-or-create", entity=RGW_CLIENT, caps=RGW_CAPS)
    (cluster.folder / f"{RGW_CLIENT}.keyring").write_bytes(made)
    for pool in RGW_POOLS:
        cluster.command(prefix="osd pool create", pool=pool, pg_num=PG_NUM, size=3)
        cluster.command(prefix="osd pool application enable", pool=pool, app="rgw")
    cluster.wait_clean()
    subprocess.run(
        [
            *("radosgw-admin", "-c", str(cluster.conf), "-n", RGW_CLIENT, "user", "create"),
            *("--uid=bench", "--display-name=bench"),
            *(f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"),
        ],
        check=True,
        capture_output=True,
        timeout=SETUP_TIMEOUT_S,
    )
