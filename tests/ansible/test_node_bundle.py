"""What a node lacks of a bundle is found, sent in one tar, checked, and installed offline."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from objectstore_infra.artefacts.storage import sha256_of
from tests.ansible.plugins import plugin

node_bundle = plugin("modules", "node_bundle")
action = plugin("action", "node_bundle")
filters = plugin("filter", "objectstore_bundle")

LISTING = {
    "version": "1.2.3",
    "artefacts": [
        {
            "name": "node-packages",
            "version": "1",
            "files": [
                {"name": "Packages", "size": 1, "sha256": "00"},
                {"name": "tool_2%3a1.0-1+b2_amd64.deb", "size": 2, "sha256": "11"},
            ],
        },
        {
            "name": "image",
            "version": "2",
            "files": [{"name": "blobs/sha256/aa", "size": 3, "sha256": "aa"}],
        },
    ],
}


def rows(bundle: Path, *paths: str) -> list[dict]:
    return [
        {"path": path, "size": (bundle / path).stat().st_size, "sha256": sha256_of(bundle / path)}
        for path in paths
    ]


def written(folder: Path, **texts: str) -> Path:
    """A folder with files ARTEFACT/file, one for each argument."""
    for name, text in texts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "file").write_text(text)
    return folder


def missing(node: Path, wanted: list[dict]) -> list[str]:
    return [row["path"] for row in node_bundle.differing(node, wanted)[0]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return written(tmp_path / "bundle", one="first", two="second")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return tmp_path / "node"


def test_packages_carry_the_version_that_dpkg_knows():
    (package,) = filters.packages(LISTING, ["node-packages"])
    assert (package["package"], package["version"]) == ("tool", "2:1.0-1+b2")
    assert package["path"] == "node-packages/tool_2%3a1.0-1+b2_amd64.deb"


def test_files_are_found_by_artefact_and_name():
    assert filters.files(LISTING, ["image/blobs/sha256/aa"]) == [
        {"path": "image/blobs/sha256/aa", "size": 3, "sha256": "aa"}
    ]
    with pytest.raises(AnsibleFilterError, match=r"1\.2\.3 holds no file 'image/other'"):
        filters.files(LISTING, ["image/other"])
    with pytest.raises(AnsibleFilterError, match="holds no artefact 'nothing'"):
        filters.artefact(LISTING, "nothing")


def test_a_package_of_another_version_is_not_installed():
    wanted = [
        {"package": name, "version": "2", "path": name} for name in ("same", "older", "absent")
    ]
    found = node_bundle.not_installed(wanted, {"same": "2", "older": "1", "other": "1"})
    assert [row["package"] for row in found] == ["older", "absent"]


def test_what_is_missing_is_sent_and_taken_in(bundle: Path, node: Path, tmp_path: Path):
    wanted = rows(bundle, "one/file", "two/file")
    written(node, one="first", two="before", three="left over")
    lacking, _ = node_bundle.differing(node, wanted)
    assert [row["path"] for row in lacking] == ["two/file"]
    assert node_bundle.others(node, wanted, exact=True) == ["three/file"]
    (node / "one" / "older").write_text("of the version before")
    assert node_bundle.others(node, wanted, exact=False) == ["one/older"]
    action.pack(bundle, ["two/file"], tmp_path / "bundle.tar")
    node_bundle.take_in(node, tmp_path / "bundle.tar", lacking, [])
    assert missing(node, wanted) == []
    assert not (node / node_bundle.INCOMING).exists()


def test_what_was_changed_on_its_way_is_refused_and_nothing_is_replaced(
    bundle: Path, node: Path, tmp_path: Path
):
    wanted = rows(bundle, "one/file")
    written(node, one="before")
    written(bundle, one="changed")
    action.pack(bundle, ["one/file"], tmp_path / "bundle.tar")
    with pytest.raises(node_bundle.RefusedError, match="one/file is not the file"):
        node_bundle.take_in(node, tmp_path / "bundle.tar", wanted, [])
    assert (node / "one" / "file").read_text() == "before"
    assert not (node / node_bundle.INCOMING).exists()


def test_a_file_is_read_again_only_when_its_size_or_time_changed(
    bundle: Path, node: Path, monkeypatch: pytest.MonkeyPatch
):
    wanted = rows(bundle, "one/file", "two/file")
    written(node, one="first", two="second")
    _, noted = node_bundle.differing(node, wanted)
    (node / node_bundle.NOTED).write_text(json.dumps(noted))
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.parent.name)
        return sha256_of(path)

    monkeypatch.setattr(node_bundle, "sha256_of", counted)
    assert missing(node, wanted) == []
    (node / "two" / "file").write_text("changed")
    assert missing(node, wanted) == ["two/file"]
    assert read == ["two"]


def test_folders_in_which_nothing_is_left_go(node: Path):
    written(node, one="first")
    (node / "empty" / "within").mkdir(parents=True)
    node_bundle.drop_empty(node)
    assert sorted(path.name for path in node.iterdir()) == ["one"]


def test_packages_start_nothing_while_they_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(node_bundle, "POLICY", policy)
    with node_bundle.services_untouched():
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text(node_bundle.POLICY_TEXT)  # of a run that was cut off
    with node_bundle.services_untouched():
        pass
    assert not policy.exists()
    policy.write_text("of the operator")
    with pytest.raises(node_bundle.RefusedError), node_bundle.services_untouched():
        raise node_bundle.RefusedError
    assert policy.read_text() == "of the operator"


def test_what_a_run_left_half_installed_is_configured_before_more_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    called = []
    monkeypatch.setattr(node_bundle, "quietly", lambda *argv: called.append(argv))
    monkeypatch.setattr(node_bundle, "POLICY", tmp_path / "policy-rc.d")
    node_bundle.install([tmp_path / "less_1_amd64.deb"])
    assert [argv[0] for argv in called] == ["dpkg", "apt-get"]
    assert "--pending" in called[0]
    assert called[1][-1].endswith("less_1_amd64.deb")


def test_a_command_that_fails_is_told_with_what_it_said_last():
    with pytest.raises(node_bundle.RefusedError, match=r"(?s)sh ended with 3:.*no room"):
        node_bundle.quietly("sh", "-c", "echo no room; exit 3")
