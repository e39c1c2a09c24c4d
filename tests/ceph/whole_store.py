"""A whole store as pods on loopback: `iam`, `metadata` and `object-controller`, over a real RADOS
and a real ZooKeeper.

By hand: `python -m tests.ceph.whole_store FOLDER` keeps one running until a signal or a line's end,
and says what to set for `pytest tests/s3`. Ceph is that of OBJECTSTORE_TEST_CEPH, or its own.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import secrets
import signal
import sys
from pathlib import Path

from objectstore_app.config.service import ZooKeeperSettings
from objectstore_app.core.ids import ShardId
from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.runtime.tls import ensure_self_signed
from tests.ceph.cluster import CephCluster, wait_until
from tests.ceph.pods import SHARDS, Pod
from tests.s3.server import Keys, free_port
from tests.zookeeper.ensemble import Ensemble

READY_S_MAX = 90.0
IN_A_HURRY = "atlas_interval = 1\natlas_grace = 0\natlas_rate = 0\n"
DOMAIN = "s3.example.test"


class WholeStore:
    """Some pods of each service. Whoever starts it stops it."""

    def __init__(
        self,
        folder: Path,
        zookeeper: ZooKeeperSettings,
        ceph: Path,
        namespace: str,
        *,
        metadata: int = 2,
        iam: int = 1,
        front_ends: int = 1,
        atlas: int = 0,
        keys: Keys | None = None,
    ) -> None:
        self.keys = keys or Keys("ROOT" + secrets.token_hex(8).upper(), secrets.token_hex(20))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tls").mkdir()
        (folder / "master.key").write_bytes(secrets.token_bytes(32))
        certificate, key = ensure_self_signed(
            folder / "tls", address="127.0.0.1", domains=[DOMAIN],
            now=datetime.datetime.now(datetime.UTC),
        )  # fmt: skip
        shared = f'master_key = "{folder / "master.key"}"\n'

        def pod(service: str, number: int, more: str = "") -> Pod:
            name = f"{service}-{number}"
            return Pod(
                folder / name, name, service=service, zookeeper=zookeeper, ceph=ceph,
                namespace=namespace, more=shared + more,
                environment={
                    "OBJECTSTORE_ROOT_ACCESS_KEY": self.keys.access_key,
                    "OBJECTSTORE_ROOT_SECRET_KEY": self.keys.secret_key,
                },
            )  # fmt: skip

        self.ports = [free_port() for _ in range(front_ends)]
        self.iam = [pod("iam", number) for number in range(iam)]
        self.metadata = [pod("metadata", number) for number in range(metadata)]
        self.atlas = [pod("atlas", number, IN_A_HURRY) for number in range(atlas)]
        self.front_ends = [
            pod(
                "object-controller",
                number,
                f'listen = "127.0.0.1:{port}"\ndomain = ["{DOMAIN}"]\n'
                f'tls_cert = "{certificate}"\ntls_key = "{key}"\n',
            )
            for number, port in enumerate(self.ports)
        ]

    @property
    def pods(self) -> list[Pod]:
        return [*self.iam, *self.metadata, *self.front_ends, *self.atlas]

    @property
    def shards(self) -> tuple[ShardId, ...]:
        """The directory, then the data shards."""
        return (DIRECTORY_SHARD, *(ShardId(number) for number in range(SHARDS)))

    def owner(self, shard: str) -> Pod:
        """Who has a shard, as the front ends know."""
        found = self.front_ends[0].map().owner(shard)
        assert found is not None
        return next(pod for pod in self.pods if pod.name == found.pod)

    @property
    def endpoints(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def start(self) -> None:
        """Return once every front end is ready."""
        for pod in self.pods:
            pod.start()
        for port, pod in zip(self.ports, self.front_ends, strict=True):
            wait_until(lambda port=port: is_ready(port), f"ready: see {pod.log}", READY_S_MAX)

    def stop(self) -> None:
        for pod in self.pods:
            pod.kill()


def is_ready(port: int) -> bool:
    """Whether a front end says so."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/_health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main(folder: Path) -> None:
    with contextlib.ExitStack() as held:
        given = os.environ.get("OBJECTSTORE_TEST_CEPH")
        if given:
            ceph = Path(given)
        else:
            cluster = CephCluster(folder / "ceph")
            held.callback(cluster.stop)
            cluster.start()
            ceph = cluster.folder
        ensemble = Ensemble(folder / "zookeeper")
        held.callback(ensemble.stop)
        ensemble.start()
        namespace = f"test-{secrets.token_hex(4)}"
        settings = ensemble.settings(f"/objectstore/{namespace}")
        store = WholeStore(folder / "pods", settings, ceph, namespace)
        held.callback(store.stop)
        store.start()
        print(
            f"export OBJECTSTORE_TEST_ENDPOINT={store.endpoints[0]}"
            f" OBJECTSTORE_TEST_DOMAIN={DOMAIN}"
            f" OBJECTSTORE_TEST_ACCESS_KEY={store.keys.access_key}"
            f" OBJECTSTORE_TEST_SECRET_KEY={store.keys.secret_key}",
            flush=True,
        )
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        sys.stdin.readline()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
