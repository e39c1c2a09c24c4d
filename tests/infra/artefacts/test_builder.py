"""The builder: makes what has changed and what is made from it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from objectstore_infra.artefacts import builder, debian, golang, listing
from objectstore_infra.artefacts.declaration import Debian, Golang
from objectstore_infra.artefacts.errors import ArtefactError
from objectstore_infra.artefacts.storage import Storage, StoredFile

DECLARED = """
suite = "trixie"

[[artefact]]
name = "build-go"
kind = "debian"
packages = ["golang"]

[[artefact]]
name = "node-packages"
kind = "debian"
packages = ["runc"]
without = ["build-go"]

[[artefact]]
name = "program"
kind = "go"
version = "1.0.0"
module = "example.org/program"
folder = "program"
commands = ["example.org/program"]
toolchain = "build-go"

[[artefact]]
name = "image"
kind = "image"
version = "{bundle}"
archive = "images"
files = ["/program=program/program"]
"""


class Tools:
    """Stands in the place of apt and go: makes files of the right names, and notes what it made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: list[str] = []
        self.text = "first"

    def packages(
        self, item: Debian, apt: object, storage: Storage, without: set[str]
    ) -> list[StoredFile]:
        return [self._file(item.name, f"{item.packages[0]}_1_all.deb", storage)]

    def programs(
        self, item: Golang, folder: Path, toolchain: object, storage: Storage
    ) -> list[StoredFile]:
        golang.require_locked(item, folder)
        return [self._file(item.name, "program", storage)]

    def _file(self, artefact: str, name: str, storage: Storage) -> StoredFile:
        self.made.append(artefact)
        path = self._folder / name
        path.write_text(f"{artefact} {self.text}")
        return storage.take(path)


@contextmanager
def no_apt(*_: object) -> Iterator[None]:
    yield None


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(tmp_path)
    monkeypatch.setattr(debian, "make", tools.packages)
    monkeypatch.setattr(debian, "opened", no_apt)
    monkeypatch.setattr(golang, "make", tools.programs)
    monkeypatch.setattr(golang, "unpack_toolchain", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "state"))
    return tools


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    folder = tmp_path / "declared"
    (folder / "program").mkdir(parents=True)
    (folder / "program" / "go.mod").write_text("require example.org/program v1.0.0\n")
    (folder / "program" / "go.sum").write_text("")
    (folder / "manifest.in").write_text(DECLARED)
    return folder / "manifest.in"


def build(declared: Path, output: Path, version: str = "1.2.3", *, fresh: bool = False) -> Path:
    return builder.build(
        version, declared=declared, output=output, fresh=fresh, report=lambda _: None
    )


def trusted(tmp_path: Path) -> set[str]:
    return {listing.public_text(listing.signing_key(tmp_path / "state" / "bundle-key"))}


def test_a_bundle_holds_what_is_shipped_and_passes_its_own_check(
    declared: Path, tmp_path: Path, tools: Tools
):
    folder = build(declared, tmp_path / "out")
    listed = listing.verify(folder, trusted(tmp_path))
    assert [row["name"] for row in listed["artefacts"]] == ["node-packages", "program", "image"]
    assert listed["artefacts"][2]["version"] == "1.2.3"


def test_a_second_build_makes_nothing_and_gives_the_same_bytes(
    declared: Path, tmp_path: Path, tools: Tools
):
    first = (build(declared, tmp_path / "one") / listing.LISTING).read_bytes()
    tools.made.clear()
    second = (build(declared, tmp_path / "two") / listing.LISTING).read_bytes()
    assert tools.made == []
    assert first == second


def test_what_has_changed_is_made_again_with_what_is_made_from_it(
    declared: Path, tmp_path: Path, tools: Tools
):
    before = listing.read(build(declared, tmp_path / "out"), trusted(tmp_path))
    tools.made.clear()
    tools.text = "second"
    (declared.parent / "program" / "go.sum").write_text("changed")
    after = listing.read(build(declared, tmp_path / "out"), trusted(tmp_path))
    assert tools.made == ["program"]
    changed = [
        new["name"]
        for old, new in zip(before["artefacts"], after["artefacts"], strict=True)
        if old["files"] != new["files"]
    ]
    assert changed == ["program", "image"]


def test_debian_is_asked_again_only_for_fresh_packages(
    declared: Path, tmp_path: Path, tools: Tools
):
    build(declared, tmp_path / "out")
    tools.made.clear()
    build(declared, tmp_path / "out", fresh=True)
    assert tools.made == ["build-go", "node-packages"]


def test_another_version_of_the_bundle_changes_only_what_carries_it(
    declared: Path, tmp_path: Path, tools: Tools
):
    build(declared, tmp_path / "out")
    tools.made.clear()
    folder = build(declared, tmp_path / "out", "1.3.0+src.0123")
    assert tools.made == []
    image = listing.read(folder, trusted(tmp_path))["artefacts"][2]
    assert image["version"] == "1.3.0_src.0123"


def test_a_folder_locked_to_another_version_is_refused(
    declared: Path, tmp_path: Path, tools: Tools
):
    text = declared.read_text().replace('version = "1.0.0"', 'version = "1.0.1"')
    declared.write_text(text)
    with pytest.raises(ArtefactError, match=r"declared is 1\.0\.1"):
        build(declared, tmp_path / "out")
    assert list((tmp_path / "cache").rglob(".building-*")) == []
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_only_what_is_named_and_what_it_needs_is_made(declared: Path, tmp_path: Path, tools: Tools):
    builder.build(
        "1", declared=declared, output=tmp_path / "out", only=["program"], report=lambda _: None
    )
    assert tools.made == ["build-go", "program"]
