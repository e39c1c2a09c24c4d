"""`objectstore bundle`: what it prints for people and for machines, and what it refuses."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from objectstore_app.cli.bundle import bundle as command
from objectstore_infra.artefacts import listing, trust
from objectstore_infra.artefacts.storage import sha256_of

OTHER = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A bundle as a build leaves it, with one archive and one other artefact."""
    folder = tmp_path / "cache" / "objectstore" / "bundles" / "1.2.3"
    for name, file in (("envoy", "envoy.tar"), ("etcd", "etcd")):
        (folder / name).mkdir(parents=True)
        (folder / name / file).write_text(name)
    rows: list[listing.ArtefactRow] = [
        {
            "name": name,
            "version": version,
            "kind": kind,
            "source": "somewhere",
            "files": [
                {
                    "name": file,
                    "size": len(name),
                    "sha256": sha256_of(folder / name / file),
                }
            ],
        }
        for name, version, kind, file in (
            ("envoy", "1.40.0", "environment", "envoy.tar"),
            ("etcd", "3.6.5", "go", "etcd"),
        )
    ]
    rows[0]["contents"] = []
    listed: listing.Listing = {
        "format": listing.FORMAT,
        "version": "1.2.3",
        "source": "1.2.3+src.0123456789ab",
        "suite": "trixie",
        "guest": {"python": "3.13", "machine": "x86_64"},
        "artefacts": rows,
    }
    listing.write(folder, listed, trust.own_key())
    return folder


def run(*argv: str) -> Result:
    return CliRunner().invoke(command, argv)


def test_list_tells_what_each_bundle_holds_and_whom_not_to_trust(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    line = run("list").output
    assert line.startswith("1.2.3  built 20")
    assert line.endswith("Z  envoy 1.40.0, etcd 3.6.5\n")
    (row,) = json.loads(run("list", "--json").output)
    assert (row["version"], row["trusted"]) == ("1.2.3", True)
    key = trust.own()
    monkeypatch.setenv("OBJECTSTORE_STATE_DIR", str(tmp_path / "elsewhere"))
    assert run("list").output.endswith(f"NOT TRUSTED, signed by {key}\n")


def test_an_empty_list_says_how_to_build_one(tmp_path: Path):
    assert "build one: objectstore bundle build" in run("list").output
    assert json.loads(run("list", "--json").output) == []


def test_verify_counts_and_names_the_builder(made: Path):
    key = trust.own()
    expected = f"bundle 1.2.3 is complete: 1 archives, 1 other artefacts, signed by {key}\n"
    assert run("verify", "1.2.3").output == expected
    (archive,) = json.loads(run("verify", "1.2.3", "--json").output)["archives"]
    assert (made / archive["file"]).read_text() == "envoy"


def test_verify_refuses_what_is_damaged_or_missing(made: Path):
    (made / "etcd" / "etcd").write_text("ETCD")
    damaged = run("verify", "1.2.3")
    assert damaged.exit_code == 1
    assert "is not the file of its listing (SHA-256)" in damaged.output
    assert run("verify", "9.9.9").exit_code == 1


def test_build_refuses_an_unknown_profile_with_those_there_are():
    refused = run("build", "--profile", "everything")
    assert refused.exit_code == 1
    assert "one of: nodes, platform" in refused.output


def test_trust_shows_adds_and_removes_keys():
    own = json.loads(run("trust", "--json").output)["own"]
    assert own == trust.own()
    assert json.loads(run("trust", OTHER, "--json").output) == {"own": own, "others": [OTHER]}
    assert run("trust").output == f"{own}  this machine's own\n{OTHER}\n"
    assert json.loads(run("trust", OTHER, "--remove", "--json").output)["others"] == []
    assert run("trust", "--remove").exit_code == 2
    refused = run("trust", "nonsense")
    assert refused.exit_code == 1
    assert "no public key" in refused.output


def test_lock_refuses_what_has_no_lock_files():
    refused = run("lock", "objectstore")
    assert refused.exit_code == 1
    assert "one of: kubernetes, etcd, etcdctl, etcdutl, coredns, pause" in refused.output
