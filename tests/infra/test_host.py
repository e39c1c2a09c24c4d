"""Setting this machine up: what is refused, where packages come from, what a plan says."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from objectstore_infra import apt_sources, host
from objectstore_infra.apt_sources import Source
from objectstore_infra.errors import HostError
from objectstore_infra.substrates.incus_client import Answer, IncusClient

DEB822 = """\
# the mirror of the house
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
"""
ONE_LINE = """\
deb http://mirror.example/debian bookworm main contrib
# deb http://off.example/debian trixie main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/key.gpg] http://sec.example/debian-security bookworm-security main
"""


@pytest.mark.parametrize(("version", "expected"), [("12", "12"), ("13", "13")])
def test_debian_12_and_13_are_accepted(version: str, expected: str) -> None:
    assert host.debian_release(f'ID=debian\nVERSION_ID="{version}"\n') == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "this is ubuntu 24.04"),
        ('ID=debian\nVERSION_ID="11"\n', "this is debian 11"),
        ("# nothing\n", "this is unknown"),
    ],
)
def test_others_are_refused_naming_what_works_everywhere(text: str, says: str) -> None:
    with pytest.raises(HostError) as refused:
        host.debian_release(text)
    assert says in str(refused.value)
    assert "make serve" in str(refused.value)


def test_a_user_without_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "debian_release", lambda _text: "12")
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="needs root, this is user id 1000"):
        host.check_platform()


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.platform, "system", lambda: "Darwin")
    with pytest.raises(HostError, match=r"needs Linux .*this is Darwin"):
        host.check_platform()


def test_both_formats_of_apt_sources_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert apt_sources.read_sources(tmp_path) == [
        Source("http://mirror.example/debian", "bookworm", ""),
        Source("http://sec.example/debian-security", "bookworm-security", "/etc/key.gpg"),
        Source("http://mirror.example/debian", "bookworm", keyring),
        Source("http://mirror.example/debian", "bookworm-updates", keyring),
        Source("http://mirror.example/debian-security", "bookworm-security", ""),
    ]


def test_backports_come_from_the_mirror_in_use() -> None:
    stanza = host.backports_stanza(apt_sources.parse_deb822(DEB822), "bookworm")
    assert stanza == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm-backports\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_a_machine_without_a_debian_mirror_is_refused() -> None:
    with pytest.raises(HostError, match="no apt source of this machine carries the suite"):
        host.backports_stanza([], "bookworm")


def test_the_plan_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "missing_packages", lambda: ["incus-base"])
    monkeypatch.setattr(host, "missing_subids", lambda: False)
    monkeypatch.setattr(host, "BRIDGE_FILTER", tmp_path / "none")
    monkeypatch.setattr(host, "INOTIFY", tmp_path / "instances")
    host.INOTIFY.write_text("128\n")
    steps = host.plan("12", IncusClient(str(tmp_path / "nothing.socket")))
    assert [step.what.split(":")[0] for step in steps] == [
        "install with apt (Incus from bookworm-backports)",
        "let more processes watch files",
        "start the Incus daemon",
        "see that Incus has a storage pool",
    ]


class Daemon:
    """Stands for the client of a daemon that answers."""

    socket_path = "nowhere"

    def __init__(self, instances: list[str]) -> None:
        self.instances = instances

    def get(self, path: str) -> Answer:
        return Answer(self.instances if path == "/instances" else {}, "")


@pytest.fixture
def orphan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A process that stands for the daemon which the set-up started, noted as such."""
    command = ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (tmp_path / "pid").write_text(f"{pid}\n")
    monkeypatch.setattr(host, "DAEMON_PID", tmp_path / "pid")
    monkeypatch.setattr(host, "DAEMON", Path(f"/proc/{pid}/exe").resolve())
    monkeypatch.setattr(host, "BRIDGE_FILTER", tmp_path / "filter")
    monkeypatch.setattr(host, "BRIDGE_FILTER_BEFORE", tmp_path / "before")
    monkeypatch.setattr(host, "INOTIFY", tmp_path / "instances")
    monkeypatch.setattr(host, "INOTIFY_BEFORE", tmp_path / "instances-before")
    yield pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_the_daemon_is_stopped_when_nobody_has_instances(orphan: int) -> None:
    host.stop(cast("IncusClient", Daemon([])), lambda _line: None)
    assert not Path(f"/proc/{orphan}").exists()
    assert not host.DAEMON_PID.exists()


def test_the_daemon_keeps_running_for_somebodys_instances(orphan: int) -> None:
    said: list[str] = []
    host.stop(cast("IncusClient", Daemon(["/1.0/instances/other-0"])), said.append)
    assert said == ["host: Incus keeps running, it has instances: other-0"]
    assert Path(f"/proc/{orphan}").exists()


def test_a_daemon_that_we_did_not_start_is_left_alone(
    orphan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "DAEMON", Path("/usr/libexec/incus/incusd"))
    host.stop(cast("IncusClient", Daemon([])), lambda _line: None)
    assert Path(f"/proc/{orphan}").exists()
    assert not host.DAEMON_PID.exists()


def test_subordinate_ids_are_added_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = (tmp_path / "subuid", tmp_path / "subgid")
    files[0].write_text("someone:100000:65536\n")
    monkeypatch.setattr(host, "SUBID_FILES", files)
    assert host.missing_subids()
    host.ensure_subids()
    assert not host.missing_subids()
    assert files[0].read_text() == f"someone:100000:65536\n{host.SUBID_RANGE}\n"
    assert files[1].read_text() == f"{host.SUBID_RANGE}\n"


def test_bridges_are_left_alone_until_the_daemon_is_stopped(orphan: int) -> None:
    assert not host.bridge_filtered()
    host.BRIDGE_FILTER.write_text("1\n")
    assert host.bridge_filtered()
    host.leave_bridges_alone()
    assert not host.bridge_filtered()
    host.stop(cast("IncusClient", Daemon([])), lambda _line: None)
    assert host.BRIDGE_FILTER.read_text() == "1\n"
    assert not host.BRIDGE_FILTER_BEFORE.exists()


def test_the_limit_of_watches_is_raised_until_nobody_has_instances(orphan: int) -> None:
    del orphan
    host.INOTIFY.write_text("128\n")
    assert host.inotify_short()
    host.allow_inotify()
    assert not host.inotify_short()
    host.stop(cast("IncusClient", Daemon([])), lambda _line: None)
    assert host.INOTIFY.read_text() == "128\n"
    host.INOTIFY.write_text("4096\n")
    assert not host.inotify_short()


def test_bridges_are_put_back_though_the_daemon_is_the_systems_own(orphan: int) -> None:
    host.DAEMON_PID.unlink()
    host.BRIDGE_FILTER.write_text("1\n")
    host.leave_bridges_alone()
    host.stop(cast("IncusClient", Daemon(["/1.0/instances/other-0"])), lambda _line: None)
    assert host.BRIDGE_FILTER.read_text() == "0\n"
    host.stop(cast("IncusClient", Daemon([])), lambda _line: None)
    assert host.BRIDGE_FILTER.read_text() == "1\n"
    assert Path(f"/proc/{orphan}").exists()
