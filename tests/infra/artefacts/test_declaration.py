"""The declaration of the artefacts: strict, ordered, every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_infra.artefacts import builder, declaration, golang, source
from objectstore_infra.artefacts.declaration import Golang, Image, Wheels
from objectstore_infra.artefacts.errors import DeclarationError

GO = """
[[artefact]]
name = "build-go"
kind = "debian"
packages = ["golang"]
"""
PROGRAM = """
[[artefact]]
name = "program"
kind = "go"
version = "1.0.0"
module = "example.org/program"
folder = "program"
commands = ["example.org/program/cmd/one", "example.org/program=two"]
toolchain = "build-go"
"""
ARCHIVE = f"""
[[artefact]]
name = "one"
kind = "image"
version = "1"
layout = "images"
{PROGRAM}
[[artefact]]
name = "two"
kind = "image"
version = "1"
layout = "images"
files = ["/one=program/one"]
"""


def read(folder: Path, text: str) -> declaration.Declaration:
    (folder / "manifest.in").write_text('suite = "trixie"\n' + text)
    return declaration.read(folder / "manifest.in")


def test_the_order_of_the_file_is_the_order_of_the_build(tmp_path: Path):
    declared = read(tmp_path, GO + PROGRAM)
    assert [artefact.name for artefact in declared.artefacts] == ["build-go", "program"]
    program = declared.named("program")
    assert isinstance(program, Golang)
    assert list(map(declaration.file_of, program.commands)) == [
        ("example.org/program/cmd/one", "one"),
        ("example.org/program", "two"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROGRAM + GO, "'build-go', which is not declared above it"),
        (GO + GO, "build-go is declared twice"),
        (GO.replace("debian", "rpm"), "kind 'rpm'"),
        (GO + 'flavour = "vanilla"', "no key 'flavour'"),
        (GO.replace('packages = ["golang"]', ""), "build-go lacks packages"),
        (GO.replace('["golang"]', '"golang"'), "build-go.packages is no list of strings"),
        (GO + "version = 1", "build-go.version is no str"),
        (GO + "[[artefact", "is not TOML"),
        ("colour = 1", "expected `suite`, "),
        (GO + ARCHIVE, "'program', which is not declared above the images of images"),
        (GO + ARCHIVE.replace("layout", "compiled_by = 'no'\nlayout", 1), "compiled_by names 'no'"),
        ("[profiles]\nall = ['build-go']\n", "profiles.all names 'build-go', which is not"),
        ("[profiles]\nall = 'build-go'\n", "profiles.all is no list"),
        ("profiles = 1\n", "profiles is no table"),
        ("nodes = 1\n", "nodes has `packages`, `files` and `store`"),
        ("[nodes]\nfiles = 'build-go'\n", "nodes.files is no list of strings"),
        ("[nodes]\nfiles = ['build-go']\n", "nodes.files names 'build-go', which is not"),
        (GO + "[nodes]\npackages = ['program']\n", "nodes.packages names 'program', which is not"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str):
    with pytest.raises(DeclarationError, match=said):
        read(tmp_path, text)


def ours() -> declaration.Declaration:
    return declaration.read(source.REPOSITORY / source.DECLARED / builder.MANIFEST)


def test_our_own_declaration_is_locked_to_what_it_declares():
    declared = ours()
    for artefact in declared.artefacts:
        if isinstance(artefact, Golang):
            golang.require_locked(artefact, declared.folder / artefact.folder)


def test_the_names_in_our_own_declaration_are_files_that_are_made():
    declared = ours()
    for image in declared.artefacts:
        if not isinstance(image, Image):
            continue
        for _, used, file in map(declaration.source_of, image.files):
            program = declared.named(used)
            assert isinstance(program, Golang)
            assert file in {name for _, name in map(declaration.file_of, program.commands)}


def test_every_lock_of_our_own_declaration_counts_as_content():
    locks = {a.lock for a in ours().artefacts if isinstance(a, Wheels)}
    assert locks == set(source.LOCKS)


def test_each_of_our_own_profiles_holds_the_python_environments_of_nodes():
    declared = ours()
    assert set(declared.shipped("nodes")) == {"objectstore", "envoy"}
    for profile in declared.profiles:
        assert set(declared.shipped("nodes")) <= set(declared.shipped(profile))


def test_nothing_is_declared_that_no_profile_needs():
    declared = ours()
    needed = {name for profile in declared.profiles.values() for name in profile}
    for artefact in reversed(declared.artefacts):
        if artefact.name in needed:
            needed |= declaration.uses(artefact)
    assert needed == {artefact.name for artefact in declared.artefacts}
