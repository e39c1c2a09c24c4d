"""The bundle: right for the guest, verified, never a new content under an old version."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from objectstore_infra import bundle
from objectstore_infra.artefacts import listing, source, trust, wheels
from objectstore_infra.artefacts.errors import ArtefactError, BundleError, ListingError
from objectstore_infra.artefacts.storage import sha256_of

WHEEL_TAG = "py3-none-any"


def wheel_name(name: str, version: str) -> str:
    return f"{name.replace('-', '_')}-{version}-{WHEEL_TAG}.whl"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a bundle is built from."""
    root = tmp_path / "tree"
    for path in source.source_files(source.REPOSITORY):
        target = root / path.relative_to(source.REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return root


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """pip's place is taken by something that makes files of the right names; returns its calls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "state"))
    calls: list[list[str]] = []

    def pretend(*groups: list[str]) -> None:
        words = [word for group in groups for word in group]
        calls.append(words)
        options = dict(
            word.split("=", 1) for word in words if word.startswith("--") and "=" in word
        )
        if words[0] == "wheel":
            version = source.declared_version(Path(words[-1]))
            folder, names = Path(options["--wheel-dir"]), [("objectstore", version)]
        else:
            lock = Path(options["--requirement"])
            folder = Path(options["--dest"])
            names = [(entry.name, entry.version) for entry in wheels.read_lock(lock)]
        folder.mkdir(exist_ok=True)
        for name, version in names:
            with zipfile.ZipFile(folder / wheel_name(name, version), "w") as wheel:
                wheel.writestr(f"{name}.txt", version)

    monkeypatch.setattr(wheels, "pip", pretend)
    return calls


def build(version: str | None = None, **options: Any) -> bundle.Bundle:
    """A bundle of Python environments alone, which needs neither apt nor Go."""
    return bundle.build(version, profile="nodes", **options)


def store_of(contents: bundle.Contents) -> bundle.ArchiveRow:
    return next(row for row in contents["archives"] if row["name"] == "objectstore")


def test_the_version_of_a_tree_follows_its_content(tree: Path):
    before = source.content_version(tree)
    assert before.startswith(source.declared_version(tree) + "+src.")
    assert source.content_version(tree) == before
    init = tree / "objectstore_app" / "core" / "ids.py"
    init.write_text(init.read_text() + "\n")
    assert source.content_version(tree) != before


def test_the_listing_names_every_file_with_its_checksum(tree: Path, tmp_path: Path, no_index):
    made = build("1.2.3", root=tree, output=tmp_path / "out")
    contents = bundle.look(made.path)
    assert contents["version"] == "1.2.3"
    assert contents["signer"] == trust.own()
    assert {archive["name"] for archive in contents["archives"]} == {"envoy", "objectstore"}
    for archive in contents["archives"]:
        path = made.path / archive["file"]
        assert (path.stat().st_size, sha256_of(path)) == (archive["size"], archive["sha256"])
        with tarfile.open(path) as tar:
            assert set(tar.getnames()) == {
                "requirements.txt",
                *(entry["file"] for entry in archive["contents"]),
            }
        assert "pip" in {entry["name"] for entry in archive["contents"]}
    store = store_of(contents)
    assert (store["version"], store["contents"][0]["version"]) == ("1.2.3", "1.2.3")


def test_what_a_node_installs_is_pinned_to_the_wheel_in_the_archive(
    tree: Path, tmp_path: Path, no_index
):
    made = build("1.2.3", root=tree, output=tmp_path / "out")
    store = store_of(bundle.verify(made.path))
    with tarfile.open(made.path / store["file"]) as tar:
        extracted = tar.extractfile("requirements.txt")
        assert extracted is not None
        text = extracted.read().decode()
    assert f"objectstore==1.2.3 \\\n    --hash=sha256:{store['contents'][0]['sha256']}" in text


def test_equal_content_gives_equal_archives_and_needs_no_index_again(
    tree: Path, tmp_path: Path, no_index
):
    first = build("1.2.3", root=tree, output=tmp_path / "one")
    fetched = len(no_index)
    second = build("1.2.3", root=tree, output=tmp_path / "two")
    assert len(no_index) == fetched
    listings = [(made.path / listing.LISTING).read_bytes() for made in (first, second)]
    assert listings[0] == listings[1]


def test_a_new_version_builds_only_our_own_wheel(tree: Path, tmp_path: Path, no_index):
    build("1.2.3", root=tree, output=tmp_path / "out")
    no_index.clear()
    build("1.2.4", root=tree, output=tmp_path / "out")
    assert [call[0] for call in no_index] == ["wheel"]


def test_other_content_under_an_old_version_is_refused(tree: Path, tmp_path: Path, no_index):
    build("1.2.3", root=tree, output=tmp_path / "out")
    build("1.2.3", root=tree, output=tmp_path / "out")
    ids = tree / "objectstore_app" / "core" / "ids.py"
    ids.write_text(ids.read_text() + "\n")
    with pytest.raises(BundleError, match="holds other content"):
        build("1.2.3", root=tree, output=tmp_path / "out")
    build("1.2.3", root=tree, output=tmp_path / "out", replace=True)


@pytest.mark.parametrize("version", ["latest", "1..2", "", " "])
def test_what_is_no_version_is_refused(version: str):
    with pytest.raises(BundleError, match="no version"):
        bundle.canonical(version)


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "no listing", "torn listing"])
def test_a_damaged_bundle_is_named_and_can_be_replaced(
    tree: Path, tmp_path: Path, no_index, damage: str
):
    folder = build("1.2.3", root=tree, output=tmp_path / "out").path
    archive, listed = folder / "envoy" / "envoy.tar", folder / listing.LISTING
    for file in (archive, listed):
        file.chmod(0o644)
    match damage:
        case "missing":
            archive.unlink()
        case "cut":
            archive.write_bytes(archive.read_bytes()[:-1])
        case "changed":
            archive.write_bytes(archive.read_bytes()[:-1] + b"x")
        case "no listing":
            listed.unlink()
        case "torn listing":
            listed.write_text(listed.read_text()[:-20])
    with pytest.raises(ListingError) as refused:
        bundle.verify(folder)
    assert (listed if "listing" in damage else archive).name in str(refused.value)
    assert "--replace" in str(refused.value)
    with pytest.raises(BundleError, match="exists and is damaged"):
        build("1.2.3", root=tree, output=tmp_path / "out")
    build("1.2.3", root=tree, output=tmp_path / "out", replace=True)
    assert bundle.verify(folder)["version"] == "1.2.3"


def test_a_damaged_bundle_of_a_working_tree_is_built_anew(tree: Path, tmp_path: Path, no_index):
    folder = build(root=tree, output=tmp_path / "out").path
    (folder / "envoy" / "envoy.tar").unlink()
    said: list[str] = []
    build(root=tree, output=tmp_path / "out", report=said.append)
    assert "envoy.tar is missing" in said[0]
    assert bundle.verify(folder)["version"] == folder.name


def test_another_builders_bundle_is_installed_only_when_trusted(
    tree: Path, tmp_path: Path, no_index, monkeypatch: pytest.MonkeyPatch
):
    release = build("1.2.3", root=tree, output=tmp_path / "out").path
    of_content = build(root=tree, output=tmp_path / "out").path
    builders = trust.own()
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "elsewhere"))
    assert not bundle.look(release)["trusted"]
    with pytest.raises(ListingError, match="not trusted here"):
        bundle.verify(release)
    with pytest.raises(BundleError, match="not trusted here"):
        build("1.2.3", root=tree, output=tmp_path / "out")
    build(root=tree, output=tmp_path / "out")
    assert bundle.verify(of_content)["signer"] == trust.own() != builders
    trust.add(builders)
    assert bundle.verify(release)["signer"] == builders


def test_a_build_that_fails_leaves_no_bundle(
    tree: Path, tmp_path: Path, no_index, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: list[str]) -> None:
        raise ArtefactError("no index")

    monkeypatch.setattr(wheels, "pip", broken)
    with pytest.raises(ArtefactError, match="no index"):
        build("1.2.3", root=tree, output=tmp_path / "out")
    assert bundle.available(tmp_path / "out") == []
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_markers_are_evaluated_for_the_guest_and_not_for_this_machine(tmp_path: Path):
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "old==1.0 ; python_full_version < '3.13' \\\n    --hash=sha256:aa\n"
        "new==2.0 ; python_full_version >= '3.13' \\\n    --hash=sha256:bb \\\n"
        "    --hash=sha256:cc\n    # via something\n"
        "windows==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:dd\n"
    )
    guest = wheels.Guest(python="3.13", machine="x86_64")
    (entry,) = wheels.read_lock(lock, guest)
    assert (entry.name, entry.version) == ("new", "2.0")
    assert entry.hashes == ("--hash=sha256:bb", "--hash=sha256:cc")


@pytest.mark.parametrize("line", ["loose>=1.0 --hash=sha256:aa", "unhashed==1.0"])
def test_a_lock_that_pins_nothing_is_refused(tmp_path: Path, line: str):
    (tmp_path / "lock.txt").write_text(line + "\n")
    with pytest.raises(ArtefactError, match="not pinned"):
        wheels.read_lock(tmp_path / "lock.txt")


def test_only_a_few_bundles_of_working_trees_are_kept(tree: Path, tmp_path: Path, no_index):
    ids = tree / "objectstore_app" / "core" / "ids.py"
    build("1.2.3", root=tree, output=tmp_path / "out")
    for number in range(bundle.SOURCE_BUNDLES_KEPT + 2):
        ids.write_text(ids.read_text() + f"# {number}\n")
        newest = build(root=tree, output=tmp_path / "out")
    kept = bundle.available(tmp_path / "out")
    assert len(kept) == bundle.SOURCE_BUNDLES_KEPT + 1
    assert {"1.2.3", newest.version} <= set(kept)
