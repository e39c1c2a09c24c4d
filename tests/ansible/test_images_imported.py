"""Images are imported when containerd lacks them or has others under their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ansible.playbook import run
from tests.ansible.plugins import plugin

images = plugin("modules", "images_imported")

CTR = """\
#!/bin/sh
case "$4" in
  list) [ "$3" = images ] && cat {folder}/images || cat {folder}/containers ;;
  import) cat > /dev/null; touch {folder}/imported ;;
esac
"""
LISTING = """\
REF                         TYPE                                       DIGEST     SIZE  PLATFORMS
example.internal/coredns:v1 application/vnd.oci.image.manifest.v1+json sha256:aa  1 MiB amd64
sha256:cc                   application/vnd.oci.image.config.v1+json   sha256:cc  1 KiB -
"""


def layout(path: Path, **named: str) -> str:
    entries = [
        {"annotations": {images.NAME: f"example.internal/{name}:v1"}, "digest": f"sha256:{digest}"}
        for name, digest in named.items()
    ]
    content = json.dumps({"manifests": entries}).encode()
    (path / "index.json").write_bytes(content)
    return str(path)


def test_a_layout_says_which_images_it_holds(tmp_path: Path):
    found = images.images_of(layout(tmp_path, coredns="aa", etcd="bb"))
    assert found == {
        "example.internal/coredns:v1": "sha256:aa",
        "example.internal/etcd:v1": "sha256:bb",
    }


def test_only_missing_and_different_images_are_lacking(tmp_path: Path):
    wanted = images.images_of(layout(tmp_path, coredns="aa", etcd="bb"))
    held = images.listed(LISTING.splitlines())
    assert images.lacking(wanted, held) == ["example.internal/etcd:v1"]
    assert images.lacking({"example.internal/coredns:v1": "sha256:zz"}, held) == [
        "example.internal/coredns:v1"
    ]


def test_the_heading_is_no_image():
    assert "REF" not in images.listed(LISTING.splitlines())


@pytest.mark.parametrize(
    ("has", "runs", "imported"),
    [("bb", True, False), ("bb", False, True), ("aa", True, False), ("", False, True)],
)
def test_a_tag_of_the_store_that_runs_is_never_another_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: str, runs: bool, imported: bool
):
    name = "objectstore.internal/objectstore:1.2"
    (tmp_path / "ctr").write_text(CTR.format(folder=tmp_path))
    (tmp_path / "ctr").chmod(0o755)
    row = f"{name} application/vnd.oci.image.manifest.v1+json sha256:{has} 1 MiB amd64\n"
    (tmp_path / "images").write_text(f"REF TYPE DIGEST SIZE PLATFORMS\n{row if has else ''}")
    container = f"abc {name} io.containerd.runc.v2\n" if runs else ""
    (tmp_path / "containers").write_text(f"CONTAINER IMAGE RUNTIME\n{container}")
    manifests = [{"annotations": {images.NAME: name}, "digest": "sha256:aa"}]
    (tmp_path / "index.json").write_text(json.dumps({"manifests": manifests}))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("nodes: {hosts: {here: {ansible_connection: local}}}\n")
    module = ("-m", "images_imported", "-a", f"layouts={tmp_path}")
    outcome = run("ansible", "-i", str(hosts), "here", *module)
    refused = runs and has == "bb"
    assert (
        "runs another build of objectstore.internal/objectstore:1.2" in outcome.output
    ) == refused
    assert (outcome.code != 0) == refused, outcome.output
    assert (tmp_path / "imported").exists() == imported
