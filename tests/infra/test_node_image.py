"""The node image: named by what it holds, made of a bundle's packages and files."""

from __future__ import annotations

import copy
import subprocess
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from objectstore_infra import node_image
from objectstore_infra.artefacts import listing, trust
from objectstore_infra.artefacts.listing import ArtefactRow, FileRow, Listing
from objectstore_infra.artefacts.storage import sha256_of
from objectstore_infra.errors import HostError, InfraError

VERSION = "1.2.3"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of one package, one file of the platform and one of the store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "cache" / "objectstore" / "bundles" / VERSION
    for path in (
        "packages/Packages",
        "packages/tool_1%3a2-3_all.deb",
        "programs/run",
        "store/blobs/sha256/aa",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    write(folder, described(folder))
    return folder


def described(folder: Path) -> Listing:
    artefacts: list[ArtefactRow] = [
        {"name": name, "version": "1", "kind": "any", "source": "", "files": rows(folder / name)}
        for name in ("packages", "programs", "store")
    ]
    return {
        "format": listing.FORMAT,
        "version": VERSION,
        "source": VERSION,
        "suite": "trixie",
        "guest": {},
        "nodes": {
            "packages": ["packages"],
            "files": ["programs/run"],
            "store": ["store/blobs/sha256/aa"],
        },
        "artefacts": artefacts,
    }


def rows(folder: Path) -> list[FileRow]:
    return [
        {
            "name": str(path.relative_to(folder)),
            "size": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def write(folder: Path, listed: Listing) -> None:
    listing.write(folder, listed, trust.own_key())


def test_the_name_follows_what_the_image_holds_and_nothing_else(folder: Path) -> None:
    before = node_image.alias(VERSION)
    listed = described(folder)
    store = copy.deepcopy(listed)
    store["artefacts"][2]["files"][0]["sha256"] = "0" * 64
    write(folder, store | {"source": "another"})
    assert node_image.alias(VERSION) == before
    for number in (0, 1):
        changed = copy.deepcopy(listed)
        changed["artefacts"][number]["files"][-1]["sha256"] = "0" * 64
        assert node_image.fingerprint(changed) != node_image.fingerprint(listed)


def test_a_bundle_without_packages_for_nodes_is_refused(folder: Path) -> None:
    listed = described(folder)
    del listed["nodes"]
    write(folder, listed)
    with pytest.raises(HostError, match=f"{VERSION} holds no packages for nodes"):
        node_image.alias(VERSION)
    with pytest.raises(InfraError, match=r"listing\.json is missing"):
        node_image.alias("9.9.9")


def test_a_bundle_that_lacks_what_it_names_is_refused(folder: Path) -> None:
    listed = described(folder)
    listed["nodes"]["files"].append("programs/absent")
    write(folder, listed)
    with pytest.raises(HostError, match="names programs/absent for nodes and does not hold it"):
        node_image.alias(VERSION)


class Bootstrap:
    """Stands in the place of mmdebstrap: notes how it was called, writes an empty root."""

    def __init__(self) -> None:
        self.argv: list[str] = []

    def __call__(self, argv: list[object], **_: object) -> subprocess.CompletedProcess[str]:
        self.argv = [str(word) for word in argv]
        target = next(word for word in self.argv if word.endswith("rootfs.tar"))
        with tarfile.open(target, "w"):
            return subprocess.CompletedProcess([], 0, "")


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> Bootstrap:
    pretended = Bootstrap()
    monkeypatch.setattr(node_image.shutil, "which", lambda name: name)
    monkeypatch.setattr(node_image.subprocess, "run", pretended)
    return pretended


def test_it_is_made_without_a_network_of_the_bundles_packages_and_files(
    folder: Path, bootstrap: Bootstrap
) -> None:
    _, rootfs = node_image.ensure_built(VERSION, print)
    assert bootstrap.argv[:3] == ["unshare", "--net", "mmdebstrap"]
    assert "--include=tool" in bootstrap.argv
    assert bootstrap.argv[-1] == f"deb [trusted=yes] copy:{folder}/packages ./"
    with tarfile.open(rootfs) as tar:
        entry = tar.getmember("./var/lib/objectstore/bundle/programs/run")
        content = tar.extractfile(entry)
        assert content is not None
        assert (content.read(), entry.uid, entry.mode) == (b"programs/run", 0, 0o644)
        assert not [name for name in tar.getnames() if "store" in Path(name).parts]
    bootstrap.argv.clear()
    assert node_image.ensure_built(VERSION, print)[1] == rootfs
    assert bootstrap.argv == []


def test_a_bundle_that_is_not_trusted_makes_no_image(folder: Path, bootstrap: Bootstrap) -> None:
    listing.write(folder, described(folder), Ed25519PrivateKey.generate())
    with pytest.raises(InfraError, match="not trusted here"):
        node_image.ensure_built(VERSION, print)
    assert bootstrap.argv == []
