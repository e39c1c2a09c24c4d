"""Container images without a registry or a container tool: OCI image layouts.

Written after the OCI image specification 1.1: `oci-layout`, `index.json`, and below `blobs/sha256`
each layer, configuration and manifest under its own hash. Layers are plain tar files, so that a
layer's hash is its diff id too, and images in one layout share them. Containerd imports a tar of
the layout under the names given (annotation `io.containerd.image.name`).

Nothing varies between two writes of the same content: entries of layers come in a fixed order, and
all but those that packages bring belong to root and are of the time 0.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIGURATION = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer that lies ready as a file."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageContent:
    """One image: its name with tag, its layers from the base on, and how it is run."""

    reference: str
    layers: tuple[Blob, ...]
    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: str = ""


class LayerWriter:
    """A tar of a layer; a path that was added already is left as it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        self._paths: set[str] = set()

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder and those above it."""
        parent = path.strip("/").rpartition("/")[0]
        if parent:
            self.folder(parent)
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.entry(entry, None)

    def file(self, path: str, content: BinaryIO, size: int, mode: int = 0o644) -> None:
        """Add a file of root's."""
        parent = path.strip("/").rpartition("/")[0]
        if parent:
            self.folder(parent)
        entry = tarfile.TarInfo(path.strip("/"))
        entry.size, entry.mode = size, mode
        self.entry(entry, content)

    def text(self, path: str, text: str) -> None:
        """Add a small file."""
        raw = text.encode()
        self.file(path, io.BytesIO(raw), len(raw))

    def entry(self, entry: tarfile.TarInfo, content: BinaryIO | None) -> None:
        """Add an entry as it is, unless its path is there."""
        if entry.name not in self._paths:
            self._paths.add(entry.name)
            self._tar.addfile(entry, content)

    def close(self) -> None:
        """Write the end of the tar."""
        self._tar.close()


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of an image layout by their paths in it: small ones as they are, and layers."""

    texts: Mapping[str, bytes]
    layers: Mapping[str, Blob]


def layout_of(images: Iterable[ImageContent]) -> Layout:
    """Return the layout that holds these images."""
    texts: dict[str, bytes] = {}
    layers: dict[str, Blob] = {}
    index = []
    for image in images:
        layers.update((_path(layer.sha256), layer) for layer in image.layers)
        configuration = _add(texts, configuration_of(image))
        manifest = _add(
            texts,
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIGURATION, **configuration},
                "layers": [
                    {"mediaType": LAYER, "digest": f"sha256:{layer.sha256}", "size": layer.size}
                    for layer in image.layers
                ],
            },
        )
        names = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
        annotations = dict.fromkeys(names, image.reference)
        index.append({"mediaType": MANIFEST, **manifest, "annotations": annotations})
    texts["index.json"] = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": index})
    texts["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    return Layout(texts, layers)


def configuration_of(image: ImageContent) -> Mapping[str, object]:
    """Return the image's configuration as the specification wants it."""
    run = {
        "Entrypoint": list(image.entrypoint),
        "Env": [PATH, *image.environment],
        "User": image.user,
    }
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {key: value for key, value in run.items() if value},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{layer.sha256}" for layer in image.layers],
        },
    }


def _add(texts: dict[str, bytes], value: Mapping[str, object]) -> dict[str, object]:
    raw = _json(value)
    sha256 = hashlib.sha256(raw).hexdigest()
    texts[_path(sha256)] = raw
    return {"digest": f"sha256:{sha256}", "size": len(raw)}


def _path(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
