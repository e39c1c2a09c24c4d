"""The bundle: right for the guest, verified, never a new content under an old version."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from objectstore_infra import bundle

WHEEL_TAG = "py3-none-any"


def wheel_name(name: str, version: str) -> str:
    return f"{name.replace('-', '_')}-{version}-{WHEEL_TAG}.whl"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a bundle is built from."""
    root = tmp_path / "tree"
    for path in bundle.source_files(bundle.REPOSITORY):
        target = root / path.relative_to(bundle.REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return root


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """pip's place is taken by something that makes files of the right names; returns its calls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls: list[list[str]] = []

    def pretend(*groups: list[str]) -> None:
        words = [word for group in groups for word in group]
        calls.append(words)
        options = dict(
            word.split("=", 1) for word in words if word.startswith("--") and "=" in word
        )
        if words[0] == "wheel":
            version = bundle.declared_version(Path(words[-1]))
            folder, names = Path(options["--wheel-dir"]), [("objectstore", version)]
        else:
            lock = Path(options["--requirement"])
            folder = Path(options["--dest"])
            names = [(entry.name, entry.version) for entry in bundle.read_lock(lock)]
        for name, version in names:
            with zipfile.ZipFile(folder / wheel_name(name, version), "w") as wheel:
                wheel.writestr(f"{name}.txt", version)

    monkeypatch.setattr(bundle, "pip", pretend)
    return calls


def test_the_version_of_a_tree_follows_its_content(tree: Path):
    before = bundle.source_version(tree)
    assert before.startswith(bundle.declared_version(tree) + "+src.")
    assert bundle.source_version(tree) == before
    init = tree / "objectstore_app" / "core" / "ids.py"
    init.write_text(init.read_text() + "\n")
    assert bundle.source_version(tree) != before


def test_the_manifest_lists_every_file_with_its_checksum(tree: Path, tmp_path: Path, no_index):
    made = bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["version"] == "1.2.3"
    assert [archive["name"] for archive in manifest["archives"]] == ["envoy", "objectstore"]
    for archive in manifest["archives"]:
        path = made.path / archive["file"]
        assert (path.stat().st_size, bundle.sha256(path)) == (archive["size"], archive["sha256"])
        with tarfile.open(path) as tar:
            assert set(tar.getnames()) == {
                "requirements.txt",
                *(entry["file"] for entry in archive["contents"]),
            }
        assert "pip" in {entry["name"] for entry in archive["contents"]}
    store = manifest["archives"][1]
    assert (store["version"], store["contents"][0]["version"]) == ("1.2.3", "1.2.3")


def test_what_a_node_installs_is_pinned_to_the_wheel_in_the_archive(
    tree: Path, tmp_path: Path, no_index
):
    made = bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    store = next(a for a in bundle.verify(made.path)["archives"] if a["name"] == "objectstore")
    with tarfile.open(made.path / store["file"]) as tar:
        extracted = tar.extractfile("requirements.txt")
        assert extracted is not None
        text = extracted.read().decode()
    assert f"objectstore==1.2.3 \\\n    --hash=sha256:{store['contents'][0]['sha256']}" in text


def test_equal_content_gives_equal_archives_and_needs_no_index_again(
    tree: Path, tmp_path: Path, no_index
):
    first = bundle.build("1.2.3", root=tree, output=tmp_path / "one")
    fetched = len(no_index)
    second = bundle.build("1.2.3", root=tree, output=tmp_path / "two")
    assert len(no_index) == fetched
    sums = [
        [a["sha256"] for a in bundle.read_manifest(b.path)["archives"]] for b in (first, second)
    ]
    assert sums[0] == sums[1]


def test_a_new_version_builds_only_our_own_wheel(tree: Path, tmp_path: Path, no_index):
    bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    no_index.clear()
    bundle.build("1.2.4", root=tree, output=tmp_path / "out")
    assert [call[0] for call in no_index] == ["wheel"]


def test_other_content_under_an_old_version_is_refused(tree: Path, tmp_path: Path, no_index):
    bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    ids = tree / "objectstore_app" / "core" / "ids.py"
    ids.write_text(ids.read_text() + "\n")
    with pytest.raises(bundle.BundleError, match="holds other content"):
        bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    bundle.build("1.2.3", root=tree, output=tmp_path / "out", replace=True)


@pytest.mark.parametrize("version", ["latest", "1..2", "", " "])
def test_what_is_no_version_is_refused(version: str):
    with pytest.raises(bundle.BundleError, match="no version"):
        bundle.canonical(version)


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "no manifest", "torn manifest"])
def test_a_damaged_bundle_is_named(tree: Path, tmp_path: Path, no_index, damage: str):
    folder = bundle.build("1.2.3", root=tree, output=tmp_path / "out").path
    archive, manifest = folder / "envoy.tar", folder / "manifest.json"
    match damage:
        case "missing":
            archive.unlink()
        case "cut":
            archive.write_bytes(archive.read_bytes()[:-1])
        case "changed":
            archive.write_bytes(archive.read_bytes()[:-1] + b"x")
        case "no manifest":
            manifest.unlink()
        case "torn manifest":
            manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(bundle.BundleError) as refused:
        bundle.verify(folder)
    assert (manifest if "manifest" in damage else archive).name in str(refused.value)
    assert "--replace" in str(refused.value)


def test_a_build_that_fails_leaves_no_bundle(
    tree: Path, tmp_path: Path, no_index, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: list[str]) -> None:
        raise bundle.BundleError("no index")

    monkeypatch.setattr(bundle, "pip", broken)
    with pytest.raises(bundle.BundleError, match="no index"):
        bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    assert bundle.available(tmp_path / "out") == []
    assert list((tmp_path / "out").iterdir()) == []
    assert list((tmp_path / "cache").rglob("*.whl")) == []


def test_markers_are_evaluated_for_the_guest_and_not_for_this_machine(tmp_path: Path):
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "old==1.0 ; python_full_version < '3.13' \\\n    --hash=sha256:aa\n"
        "new==2.0 ; python_full_version >= '3.13' \\\n    --hash=sha256:bb \\\n"
        "    --hash=sha256:cc\n    # via something\n"
        "windows==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:dd\n"
    )
    guest = bundle.Guest(python="3.13", machine="x86_64")
    (entry,) = bundle.read_lock(lock, guest)
    assert (entry.name, entry.version) == ("new", "2.0")
    assert entry.hashes == ("--hash=sha256:bb", "--hash=sha256:cc")


@pytest.mark.parametrize("line", ["loose>=1.0 --hash=sha256:aa", "unhashed==1.0"])
def test_a_lock_that_pins_nothing_is_refused(tmp_path: Path, line: str):
    (tmp_path / "lock.txt").write_text(line + "\n")
    with pytest.raises(bundle.BundleError, match="not pinned"):
        bundle.read_lock(tmp_path / "lock.txt")


def test_only_a_few_bundles_of_working_trees_are_kept(tree: Path, tmp_path: Path, no_index):
    ids = tree / "objectstore_app" / "core" / "ids.py"
    bundle.build("1.2.3", root=tree, output=tmp_path / "out")
    for number in range(bundle.SOURCE_BUNDLES_KEPT + 2):
        ids.write_text(ids.read_text() + f"# {number}\n")
        newest = bundle.build(root=tree, output=tmp_path / "out")
    kept = bundle.available(tmp_path / "out")
    assert len(kept) == bundle.SOURCE_BUNDLES_KEPT + 1
    assert {"1.2.3", newest.version} <= set(kept)
