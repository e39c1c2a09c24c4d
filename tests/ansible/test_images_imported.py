"""Images are imported when containerd lacks them or has others under their names."""

from __future__ import annotations

import json
from pathlib import Path

from tests.ansible.plugins import plugin

images = plugin("modules", "images_imported")

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
