"""The builder: makes what has changed and what is made from it, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from objectstore_infra import bundle
from objectstore_infra.artefacts import builder, debian, golang, listing, source
from objectstore_infra.artefacts.declaration import Debian, Golang
from objectstore_infra.artefacts.errors import ArtefactError, BundleError, DeclarationError
from objectstore_infra.artefacts.storage import Storage, StoredFile

DECLARED = """
suite = "trixie"

[profiles]
all = ["node-packages", "program", "image"]
program = ["program"]

[[artefact]]
name = "toolchain"
kind = "debian"
packages = ["golang"]

[[artefact]]
name = "node-packages"
kind = "debian"
packages = ["runc"]
without = ["toolchain"]

[[artefact]]
name = "program"
kind = "go"
version = "1.0.0"
module = "example.org/program"
folder = "program"
commands = ["example.org/program"]
toolchain = "toolchain"

[[artefact]]
name = "image"
kind = "image"
version = "{bundle}"
layout = "images"
files = ["/program=program/program"]
"""


class Tools:
    """Stands in the place of apt and go: makes files of the right names, and notes what it made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: list[str] = []
        self.locked: list[str] = []
        self.text = "first"

    def packages(
        self, item: Debian, apt: object, storage: Storage, without: set[str]
    ) -> list[StoredFile]:
        return [self._file(item.name, f"{item.packages[0]}_1_all.deb", storage)]

    def programs(
        self,
        item: Golang,
        folder: Path,
        toolchain: object,
        storage: Storage,
        report: builder.Report,
    ) -> list[StoredFile]:
        golang.require_locked(item, folder)
        return [self._file(item.name, "program", storage)]

    def lock(self, item: Golang, folder: Path, toolchain: object) -> None:
        self.locked.append(item.name)

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
    monkeypatch.setattr(golang, "lock", tools.lock)
    monkeypatch.setattr(golang, "unpack_toolchain", lambda *_: None)
    return tools


@pytest.fixture
def declared(tree: Path) -> Path:
    """The folder of the tree's declaration."""
    folder = tree / source.DECLARED
    (folder / "program").mkdir()
    (folder / "program" / "go.mod").write_text("require example.org/program v1.0.0\n")
    (folder / "program" / "go.sum").write_text("")
    (folder / builder.MANIFEST).write_text(DECLARED)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def build(tree: Path, output: Path, version: str = "1.2.3", **options: bool) -> Path:
    return bundle.build(version, profile="all", root=tree, output=output, **options).path


def test_a_bundle_holds_what_its_profile_ships_and_passes_its_own_check(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    artefacts = bundle.verify(build(tree, out))["artefacts"]
    assert [row["name"] for row in artefacts] == ["node-packages", "program", "image"]
    assert artefacts[2]["version"] == "1.2.3"


def test_a_second_build_makes_nothing_and_gives_the_same_bytes(
    tree: Path, declared: Path, tmp_path: Path, tools: Tools
):
    first = (build(tree, tmp_path / "one") / listing.LISTING).read_bytes()
    tools.made.clear()
    second = (build(tree, tmp_path / "two") / listing.LISTING).read_bytes()
    assert tools.made == []
    assert first == second


def test_what_has_changed_is_made_again_with_what_is_made_from_it(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    before = bundle.look(build(tree, out))
    tools.made.clear()
    tools.text = "second"
    (declared / "program" / "go.sum").write_text("changed")
    after = bundle.look(build(tree, out, replace=True))
    assert tools.made == ["program"]
    changed = [
        new["name"]
        for old, new in zip(before["artefacts"], after["artefacts"], strict=True)
        if old["files"] != new["files"]
    ]
    assert changed == ["program", "image"]


def test_another_declaration_is_another_content(tree: Path, declared: Path):
    before = source.content_version(tree)
    (declared / "program" / "go.sum").write_text("changed")
    assert source.content_version(tree) != before


def test_debian_is_asked_again_only_for_fresh_packages(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    build(tree, out)
    tools.made.clear()
    build(tree, out, replace=True)
    assert tools.made == []
    build(tree, out, fresh=True)
    assert tools.made == ["toolchain", "node-packages"]


def test_another_version_of_the_bundle_changes_only_what_carries_it(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    build(tree, out)
    tools.made.clear()
    folder = build(tree, out, "1.3.0+src.0f23")
    assert tools.made == []
    assert bundle.look(folder)["artefacts"][2]["version"] == "1.3.0_src.0f23"


def test_a_folder_locked_to_another_version_is_refused_and_nothing_is_left(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    manifest = declared / builder.MANIFEST
    manifest.write_text(DECLARED.replace('version = "1.0.0"', 'version = "1.0.1"'))
    with pytest.raises(ArtefactError, match=r"declared is 1\.0\.1"):
        build(tree, out)
    assert not out.exists() or list(out.iterdir()) == []


def test_a_folder_that_is_missing_is_named_with_how_to_make_it(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    shutil.rmtree(declared / "program")
    with pytest.raises(ArtefactError, match="objectstore bundle lock program"):
        build(tree, out)


def test_a_profile_makes_what_it_ships_and_what_that_needs(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    made = bundle.build("1", profile="program", root=tree, output=out)
    assert tools.made == ["toolchain", "program"]
    assert [row["name"] for row in bundle.look(made.path)["artefacts"]] == ["program"]


def test_a_profile_that_adds_something_is_not_hidden_by_a_smaller_bundle(
    tree: Path, declared: Path, out: Path, tools: Tools
):
    bundle.build("1", profile="program", root=tree, output=out)
    with pytest.raises(BundleError, match="lacks what the profile all adds"):
        bundle.build("1", profile="all", root=tree, output=out)
    of_content = bundle.build(profile="program", root=tree, output=out).path
    assert bundle.build(profile="all", root=tree, output=out).path == of_content
    held = [row["name"] for row in bundle.look(of_content)["artefacts"]]
    assert held == ["node-packages", "program", "image"]
    said: list[str] = []
    bundle.build(profile="program", root=tree, output=out, report=said.append)
    assert "up to date" in said[0]


def test_an_unknown_profile_is_refused_with_those_there_are(tree: Path, declared: Path, out: Path):
    with pytest.raises(DeclarationError, match="one of: all, program"):
        bundle.build("1", profile="everything", root=tree, output=out)


def test_lock_files_are_made_for_all_programs_or_for_those_named(
    tree: Path, declared: Path, tools: Tools
):
    making = builder.Builder(tree, "1", lambda _: None)
    making.lock([])
    assert (tools.made, tools.locked) == (["toolchain"], ["program"])
    with pytest.raises(DeclarationError, match="one of: program"):
        making.lock(["image"])
