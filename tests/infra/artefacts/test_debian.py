"""Debian packages: from this machine's mirrors, of the declared release line, with an index."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from objectstore_infra.apt_sources import Source
from objectstore_infra.artefacts import debian
from objectstore_infra.artefacts.declaration import Debian
from objectstore_infra.artefacts.errors import ArtefactError
from objectstore_infra.artefacts.storage import Storage

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")


class FakeApt(debian.Apt):
    """Gives packages that lie ready."""

    def __init__(self, debs: list[Path]) -> None:
        self._debs = debs

    def closure(self, packages: tuple[str, ...]) -> list[Path]:
        return self._debs

    def alone(self, packages: tuple[str, ...]) -> list[Path]:
        return [deb for deb in self._debs if debian.package_of(deb.name) in packages]


def a_package(folder: Path, name: str, version: str) -> Path:
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\n"
        f"Description: a package\n"
    )
    target = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    command = ["dpkg-deb", "--build", "--root-owner-group", root, target]
    subprocess.run(command, check=True, capture_output=True)
    return target


def test_pockets_come_from_where_this_machine_gets_its_own():
    sources = [
        Source("http://mirror.test/debian", "bookworm", ""),
        Source("http://mirror.test/security", "bookworm-security", ""),
    ]
    lines = debian.source_lines("trixie", ("", "-security", "-backports"), sources)
    assert [line.split("] ")[1] for line in lines] == [
        "http://mirror.test/debian trixie main",
        "http://mirror.test/security trixie-security main",
        "http://mirror.test/debian trixie-backports main",
    ]


def test_a_machine_without_debian_sources_is_told_so():
    with pytest.raises(ArtefactError, match="no apt source"):
        debian.source_lines("trixie", ("",), [])


def test_names_and_versions_are_read_from_file_names():
    name = "keepalived_1%3a2.3.3-1_amd64.deb"
    assert (debian.package_of(name), debian.version_of(name)) == ("keepalived", "2.3.3-1")
    assert debian.version_of("runc_1.1.15+ds1-2+b4_amd64.deb") == "1.1.15+ds1-2+b4"


@needs_dpkg
def test_what_another_artefact_holds_is_left_out_and_the_rest_has_an_index(tmp_path: Path):
    storage = Storage(tmp_path / "cache")
    debs = [a_package(tmp_path, name, "1:2.0") for name in ("here", "there")]
    item = Debian("packages", ("here",), version="2.")
    files = debian.make(item, FakeApt(debs), storage, {"there"})
    assert [file.name for file in files] == ["here_1%3a2.0_all.deb", debian.INDEX]
    index = storage.path(files[1]).read_text()
    assert "Package: here\nVersion: 1:2.0\n" in index
    assert f"Filename: ./here_1%3a2.0_all.deb\nSize: {files[0].size}\n" in index
    assert debian.packages_in(files) == files[:1]


@needs_dpkg
def test_another_release_line_than_the_declared_one_is_refused(tmp_path: Path):
    storage = Storage(tmp_path / "cache")
    debs = [a_package(tmp_path, "ceph", "20.1")]
    item = Debian("packages", ("ceph",), version="18.", alone=True)
    with pytest.raises(ArtefactError, match=r"\['20\.1'\], declared is 18\."):
        debian.make(item, FakeApt(debs), storage, set())
