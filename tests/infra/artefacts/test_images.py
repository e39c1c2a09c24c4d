"""Images: what the OCI specification wants, the same bytes each time, layers written once."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from objectstore_infra.artefacts import declaration, images
from objectstore_infra.artefacts.declaration import Image
from objectstore_infra.artefacts.errors import ArtefactError
from objectstore_infra.artefacts.storage import Storage, StoredFile

DECLARED = """
suite = "trixie"

[[artefact]]
name = "build-go"
kind = "debian"
packages = ["golang"]

[[artefact]]
name = "packages"
kind = "pypi"
lock = "requirements/serve.txt"

[[artefact]]
name = "programs"
kind = "go"
version = "1"
module = "example.org/programs"
folder = "programs"
commands = ["example.org/programs/run"]
toolchain = "build-go"

[[artefact]]
name = "first"
kind = "image"
version = "1"
layout = "both"
layers = ["packages"]
files = ["/usr/local/bin/run=programs/run"]
entrypoint = ["/usr/local/bin/run"]
user = "7200:7200"

[[artefact]]
name = "second"
kind = "image"
version = "2"
layout = "both"
layers = ["packages"]
"""


class Made:
    """A layout and how to look into it."""

    def __init__(self, files: list[StoredFile], storage: Storage) -> None:
        self.files = {file.name: storage.path(file).read_bytes() for file in files}
        rows = json.loads(self.files["index.json"])["manifests"]
        self.images = {
            row["annotations"]["io.containerd.image.name"]: self.blob(row["digest"]) for row in rows
        }

    def blob(self, digest: str) -> dict[str, object]:
        parsed: dict[str, object] = json.loads(self.raw(digest))
        return parsed

    def raw(self, digest: str) -> bytes:
        return self.files["blobs/sha256/" + digest.removeprefix("sha256:")]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "cache")


@pytest.fixture
def made(storage: Storage, tmp_path: Path) -> dict[str, list[StoredFile]]:
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing/__init__.py", "x = 1\n")
        archive.writestr("thing-1.data/purelib/other.py", "y = 2\n")
        archive.writestr("thing-1.data/scripts/thing", "#!python\n")
    program = tmp_path / "run"
    program.write_text("program")
    return {"packages": [storage.take(wheel)], "programs": [storage.take(program)]}


@pytest.fixture
def declared(tmp_path: Path) -> declaration.Declaration:
    (tmp_path / "manifest.in").write_text(DECLARED)
    return declaration.read(tmp_path / "manifest.in")


@pytest.fixture
def both(declared: declaration.Declaration) -> list[Image]:
    return [artefact for artefact in declared.artefacts if isinstance(artefact, Image)]


def test_every_blob_lies_under_its_own_hash(declared, both, made, storage: Storage):
    files = images.make(both, declared, made, storage)
    for name, content in Made(files, storage).files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]


def test_images_share_layers_and_carry_their_settings(declared, both, made, storage: Storage):
    layout = Made(images.make(both, declared, made, storage), storage)
    first = layout.images["objectstore.internal/first:1"]
    second = layout.images["objectstore.internal/second:2"]
    assert first["layers"][:2] == second["layers"]
    settings = layout.blob(first["config"]["digest"])
    assert settings["config"]["Entrypoint"] == ["/usr/local/bin/run"]
    assert settings["config"]["User"] == "7200:7200"
    assert settings["rootfs"]["diff_ids"] == [layer["digest"] for layer in first["layers"]]


def test_wheels_lie_where_python_is_told_to_look_and_scripts_do_not(
    declared, both, made, storage: Storage
):
    layout = Made(images.make(both, declared, made, storage), storage)
    layer = layout.images["objectstore.internal/second:2"]["layers"][1]["digest"]
    with tarfile.open(fileobj=io.BytesIO(layout.raw(layer))) as tar:
        names = {entry.name for entry in tar if entry.isfile()}
    assert names == {f"{images.SITE}/thing/__init__.py", f"{images.SITE}/other.py"}


def test_the_same_content_gives_the_same_layout(
    declared, both, made, storage: Storage, tmp_path: Path
):
    one = images.make(both, declared, made, storage)
    elsewhere = Storage(tmp_path / "elsewhere")
    for files in made.values():
        for file in files:
            shutil.copyfile(storage.path(file), elsewhere.path(file))
    two = images.make(both, declared, made, elsewhere)
    assert one == two


def test_a_file_that_nothing_makes_is_refused(declared, both, made, storage: Storage):
    with pytest.raises(ArtefactError, match="programs makes no file run"):
        images.make(both, declared, made | {"programs": []}, storage)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
def test_packages_are_unpacked_without_what_only_people_read(storage: Storage, tmp_path: Path):
    root = tmp_path / "package"
    for path in ("DEBIAN/control", "usr/bin/tool", "usr/share/doc/tool/copyright"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("text\n")
    (root / "DEBIAN/control").write_text(
        "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: a tool\n"
    )
    (root / "bin").symlink_to("usr/bin")
    command = ["dpkg-deb", "--build", "--root-owner-group", root, tmp_path / "tool_1_all.deb"]
    subprocess.run(command, check=True, capture_output=True)
    deb = storage.take(tmp_path / "tool_1_all.deb")
    layer = images.unpacked_layer("tool", [deb], storage, images.write_packages)
    assert images.unpacked_layer("tool", [deb], storage, images.write_packages) == layer
    with tarfile.open(storage.path(layer)) as tar:
        assert tar.getmember("bin").linkname == "usr/bin"
        assert tar.getmember("usr/bin/tool").isfile()
        assert not [name for name in tar.getnames() if "doc" in name.split("/")]
