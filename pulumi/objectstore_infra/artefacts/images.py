"""Layers and images out of artefacts.

A layer of Debian packages is the packages unpacked, without running what they would run when they
are installed: enough for programs and libraries, reproducible, and without root. What such scripts
would have made and programs need (accounts, a temporary folder) is in every image's first layer.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from objectstore_infra.artefacts import oci
from objectstore_infra.artefacts.bytecode import BYTECODE_FORMAT, bytecode_layer
from objectstore_infra.artefacts.debian import packages_in
from objectstore_infra.artefacts.declaration import Debian, Declaration, Image, source_of
from objectstore_infra.artefacts.errors import ArtefactError, ToolError
from objectstore_infra.artefacts.storage import Storage, StoredFile, key_of

LAYER_FORMAT = 1
PREFIX = "objectstore.internal"
SITE = "opt/objectstore/site"
LEFT_OUT = tuple(
    f"./usr/share/{name}/" for name in ("doc", "doc-base", "info", "lintian", "locale", "man")
)
ACCOUNTS = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        "objectstore:x:7200:7200:object store:/:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    ),
    "etc/group": "root:x:0:\nobjectstore:x:7200:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

Made = Mapping[str, list[StoredFile]]
Unpack = Callable[[list[StoredFile], Storage, oci.LayerWriter], None]


def reference_of(image: Image) -> str:
    """Return the name under which nodes know the image."""
    return f"{PREFIX}/{image.reference or image.name}:{image.version}"


def inputs(images: list[Image], made: Made) -> str:
    """Return the key of all that decides the layout of these images."""
    used = {name: made[name] for image in images for name in _sources(image)}
    return key_of("image", LAYER_FORMAT, BYTECODE_FORMAT, ACCOUNTS, images, sorted(used.items()))


def make(
    images: list[Image], declaration: Declaration, made: Made, storage: Storage
) -> list[StoredFile]:
    """Make the files of the layout that holds these images."""
    contents = []
    for image in images:
        layers = [accounts_layer(storage)]
        interpreter: list[StoredFile] = []
        for name in image.layers:
            is_debian = isinstance(declaration.named(name), Debian)
            write = write_packages if is_debian else write_wheels
            layers.append(unpacked_layer(name, made[name], storage, write))
            if name == image.compiled_by:
                interpreter = layers[:]
            if interpreter:
                layers.append(bytecode_layer(name, layers[-1], interpreter, storage))
        if image.files:
            layers.append(files_layer(image, made, storage))
        blobs = tuple(oci.Blob(storage.path(f), f.size, f.sha256) for f in layers)
        contents.append(
            oci.ImageContent(
                reference_of(image), blobs, image.entrypoint, image.environment, image.user
            )
        )
    made_of = oci.layout_of(contents)
    layers = [
        StoredFile(path, blob.size, blob.sha256) for path, blob in sorted(made_of.layers.items())
    ]
    return [*(storage.put(path, raw) for path, raw in sorted(made_of.texts.items())), *layers]


def accounts_layer(storage: Storage) -> StoredFile:
    """The first layer of every image: accounts and a temporary folder."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as scratch:
        tar = oci.LayerWriter(cast("BinaryIO", scratch))
        for path, text in sorted(ACCOUNTS.items()):
            tar.text(path, text)
        tar.folder("tmp", 0o1777)
        tar.close()
        scratch.flush()
        return storage.take(Path(scratch.name), "accounts.tar")


def files_layer(image: Image, made: Made, storage: Storage) -> StoredFile:
    """The layer of an image's own files, all executable.

    Raises: ArtefactError: an artefact has no such file.
    """
    with tempfile.NamedTemporaryFile(suffix=".tar") as scratch:
        tar = oci.LayerWriter(cast("BinaryIO", scratch))
        for path, artefact, name in sorted(map(source_of, image.files)):
            found = next((file for file in made[artefact] if file.name == name), None)
            if found is None:
                raise ArtefactError(f"{image.name}: {artefact} makes no file {name}")
            with storage.path(found).open("rb") as content:
                tar.file(path, content, found.size, 0o755)
        tar.close()
        scratch.flush()
        return storage.take(Path(scratch.name), f"{image.name}.tar")


def unpacked_layer(
    artefact: str, files: list[StoredFile], storage: Storage, write: Unpack
) -> StoredFile:
    """The layer of an artefact's packages, unpacked once for all images that have it."""
    name = f"layer-{artefact}"
    key = key_of("layer", LAYER_FORMAT, LEFT_OUT, SITE, write.__name__, files)
    known = storage.recall(name, key)
    if known:
        return known[0]
    with tempfile.NamedTemporaryFile(suffix=".tar") as scratch:
        tar = oci.LayerWriter(cast("BinaryIO", scratch))
        write(files, storage, tar)
        tar.close()
        scratch.flush()
        return storage.remember(name, key, [storage.take(Path(scratch.name), "layer.tar")])[0]


def write_packages(files: list[StoredFile], storage: Storage, tar: oci.LayerWriter) -> None:
    """Unpack Debian packages into the layer, but for what only people read."""
    for file in packages_in(files):
        command = ["dpkg-deb", "--fsys-tarfile", os.fspath(storage.path(file))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking:
            stream = cast("BinaryIO", unpacking.stdout)
            with tarfile.open(fileobj=stream, mode="r|") as package:
                for entry in package:
                    if f"{entry.name.rstrip('/')}/".startswith(LEFT_OUT) or entry.name in (
                        ".",
                        "./",
                    ):
                        continue
                    content = package.extractfile(entry) if entry.isreg() else None
                    entry.name = entry.name.removeprefix("./").rstrip("/")
                    if entry.islnk():
                        entry.linkname = entry.linkname.removeprefix("./")
                    tar.entry(entry, cast("BinaryIO | None", content))
        if unpacking.returncode:
            raise ToolError(f"dpkg-deb cannot unpack {file.name}")


def write_wheels(files: list[StoredFile], storage: Storage, tar: oci.LayerWriter) -> None:
    """Unpack wheels into the layer's folder of Python packages; their scripts are left out."""
    tar.folder(SITE)
    for file in files:
        with zipfile.ZipFile(storage.path(file)) as wheel:
            for name in sorted(wheel.namelist()):
                top, _, rest = name.partition("/")
                target = name
                if top.endswith(".data"):
                    scheme, _, target = rest.partition("/")
                    if scheme not in ("purelib", "platlib"):
                        continue
                if not target.endswith("/"):
                    with wheel.open(name) as content:
                        size = wheel.getinfo(name).file_size
                        tar.file(f"{SITE}/{target}", cast("BinaryIO", content), size)


def _sources(image: Image) -> set[str]:
    return {*image.layers, *(source_of(entry)[1] for entry in image.files)}
