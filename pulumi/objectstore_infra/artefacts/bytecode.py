"""Python modules of images, compiled when the image is made.

Without that each pod would compile all it imports when it starts: a second of processor time, in
the moment in which its clients wait for it. The image's own interpreter does it, whatever the
operator's machine has: it is unpacked and run by the dynamic loader that comes with it.
Nothing of the result depends on time or place: it holds for the source beside it, unchecked.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from objectstore_infra.artefacts import oci
from objectstore_infra.artefacts.errors import run_tool
from objectstore_infra.artefacts.storage import Storage, StoredFile, key_of

BYTECODE_FORMAT = 1
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
INTERPRETER = "usr/bin/python3"
TIMEOUT_S = 300


def bytecode_layer(
    artefact: str, layer: StoredFile, interpreter: Sequence[StoredFile], storage: Storage
) -> StoredFile:
    """The layer that holds the modules of an artefact's layer compiled; `interpreter` are the
    layers with Python.

    Raises: ToolError: a module does not compile.
    """
    name = f"bytecode-{artefact}"
    key = key_of("bytecode", BYTECODE_FORMAT, layer, list(interpreter))
    known = storage.recall(name, key)
    if known:
        return known[0]
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as scratch:
        root = Path(folder)
        for each in dict.fromkeys([*interpreter, layer]):
            unpack: list[str | Path] = [
                "tar",
                "--extract",
                "--no-same-owner",
                "--file",
                storage.path(each),
            ]
            run_tool(unpack, timeout_s=TIMEOUT_S, cwd=root)
        with tarfile.open(storage.path(layer)) as tar:
            files = sorted(Path(entry.name) for entry in tar if entry.isfile())
        modules = [file for file in files if file.suffix == ".py"]
        _compile(modules, root)
        written = oci.LayerWriter(cast("BinaryIO", scratch))
        for module in modules:
            for compiled in sorted((root / module).parent.glob(f"__pycache__/{module.stem}.*.pyc")):
                with compiled.open("rb") as content:
                    path = str(compiled.relative_to(root))
                    written.file(path, content, compiled.stat().st_size)
        written.close()
        scratch.flush()
        return storage.remember(name, key, [storage.take(Path(scratch.name), "layer.tar")])[0]


def _compile(modules: Sequence[Path], root: Path) -> None:
    python = (root / INTERPRETER).resolve()
    listed = root / "modules"
    listed.write_text("".join(f"{module}\n" for module in modules))
    run_tool(
        [
            *(root / LOADER, "--library-path", root / LIBRARIES, python, "-S", "-m", "compileall"),
            *("-q", "-i", listed, "-p", "/", "--invalidation-mode", "unchecked-hash"),
        ],
        timeout_s=TIMEOUT_S,
        name="compileall",
        cwd=root,
        environment={
            "PYTHONHOME": str(root / "usr"),
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": "",
            "PYTHONPYCACHEPREFIX": "",
        },
    )
