"""The settings of a pod: what is told by its file and its environment, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_app.config.ceph import CephPools
from objectstore_app.config.errors import SettingsError
from objectstore_app.config.service import service_settings
from objectstore_app.config.settings import Address

POD = {"POD_NAME": "metadata-1", "POD_IP": "10.244.1.7"}
FILES = ("cluster_ca", "cluster_cert", "cluster_key", "zookeeper_ca", "zookeeper_cert",
         "zookeeper_key", "master_key", "tls_cert", "tls_key", "ceph_conf")  # fmt: skip


def write(folder: Path, **changes: str | None) -> Path:
    """A file that is right, with some of its lines changed or (None) left out. Values are TOML."""
    lines = {
        "store": '"abc-oss"',
        "shards": "3",
        "data": f'"{folder}/data"',
        "zookeeper": '["zookeeper-0.zookeeper:2281", "zookeeper-1.zookeeper:2281"]',
        "ceph_client": '"client.metadata"',
        "ceph_pools": '{log = "abc-oss.log", open = "abc-oss.open", cold = "abc-oss.cold"}',
    }
    for name in FILES:
        (folder / name).write_text("x")
        lines[name] = f'"{folder / name}"'
    path = folder / "service.toml"
    told = {**lines, **changes}
    path.write_text("\n".join(f"{key} = {value}" for key, value in told.items() if value) + "\n")
    return path


def test_pod_is_told_where_it_is_by_its_environment(tmp_path: Path) -> None:
    settings = service_settings(write(tmp_path), POD)
    assert settings.pod == "metadata-1"
    assert settings.address == Address("10.244.1.7", 7201)
    assert settings.zookeeper.root == "/objectstore/abc-oss"
    assert settings.zookeeper.hosts[1] == Address("zookeeper-1.zookeeper", 2281)
    assert settings.ceph is not None
    assert settings.ceph.pools == CephPools("abc-oss.log", "abc-oss.open", "abc-oss.cold")
    assert settings.ceph.namespace == "abc-oss"
    assert settings.run == tmp_path / "data" / "run"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("shard", "3", "shard"),
        ("shards", "0", "shards"),
        ("shards", '"3"', "shards"),
        ("shards", None, "shards"),
        ("zookeeper", "[]", "zookeeper"),
        ("zookeeper", '["zookeeper"]', "zookeeper"),
        ("zookeeper_session", "0.1", "zookeeper_session"),
        ("cluster_key", '"/nowhere"', "cluster_key"),
        ("master_key", '"/nowhere"', "master_key"),
        ("tls_key", '""', "tls_key"),
        ("ceph_pools", None, "ceph_pools"),
        ("ceph_pools", '{log = "a", opens = "b"}', "opens"),
        ("ceph_client", None, "ceph_client"),
        ("log_format", '"xml"', "log_format"),
        ("listen", '"7200"', "listen"),
    ],
)
def test_mistake_is_refused_by_its_name(
    tmp_path: Path, key: str, value: str | None, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        service_settings(write(tmp_path, **{key: value}), POD)


def test_pod_that_nobody_could_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="POD_IP"):
        service_settings(write(tmp_path), {"POD_NAME": "metadata-1"})


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--config"):
        service_settings(tmp_path / "service.toml", POD)
