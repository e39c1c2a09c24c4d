"""Modules of images: compiled by the image's own Python, the same bytes each time."""

from __future__ import annotations

import io
import marshal
import os
import sys
import tarfile
import types
from pathlib import Path

import pytest

from objectstore_infra.artefacts import bytecode
from objectstore_infra.artefacts.errors import ToolError
from objectstore_infra.artefacts.storage import Storage, StoredFile

LOADER = Path("/lib64/ld-linux-x86-64.so.2")
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()

pytestmark = pytest.mark.skipif(
    not LOADER.exists() or not LIBRARIES.exists(),
    reason="the libraries of this machine do not lie as Debian has them on x86-64",
)


def layer(
    storage: Storage, tmp_path: Path, name: str, entries: dict[str, str | Path]
) -> StoredFile:
    """A tar of files, and of links to what this machine has."""
    path = tmp_path / f"{name}.tar"
    with tarfile.open(path, "w") as tar:
        for place, content in entries.items():
            entry = tarfile.TarInfo(place)
            if isinstance(content, Path):
                entry.type, entry.linkname = tarfile.SYMTYPE, str(content)
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content.encode()))
    return storage.take(path)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "cache")


@pytest.fixture
def interpreter(storage: Storage, tmp_path: Path) -> StoredFile:
    """This machine's Python in the place of an image's."""
    library = Path(os.__file__).parent
    entries = {
        bytecode.LOADER: LOADER.resolve(),
        bytecode.LIBRARIES: LIBRARIES,
        bytecode.INTERPRETER: PYTHON,
        f"usr/lib/{library.name}": library,
    }
    return layer(storage, tmp_path, "interpreter", entries)


def test_each_module_gets_its_bytecode_beside_it_and_nothing_else(
    storage: Storage, interpreter: StoredFile, tmp_path: Path
):
    modules = {"opt/site/one/__init__.py": "x = 1\n", "opt/site/two.py": "", "opt/site/note": "3"}
    given = layer(storage, tmp_path, "modules", dict(modules))
    made = bytecode.bytecode_layer("modules", given, [interpreter], storage)
    tag = sys.implementation.cache_tag
    with tarfile.open(storage.path(made)) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}
    assert set(files) == {
        f"opt/site/one/__pycache__/__init__.{tag}.pyc",
        f"opt/site/__pycache__/two.{tag}.pyc",
    }
    content = files[f"opt/site/__pycache__/two.{tag}.pyc"]
    code = marshal.loads(content[16:])  # noqa: S302 - made by ourselves
    assert int.from_bytes(content[4:8], "little") == 1  # by hash, never checked
    assert isinstance(code, types.CodeType)
    assert code.co_filename == "/opt/site/two.py"


def test_same_modules_give_the_same_bytes(
    storage: Storage, interpreter: StoredFile, tmp_path: Path
):
    text = "KINDS = frozenset({'one', 'two', 'three'})\nif 'one' in {'one', 'two'}:\n    x = 1\n"
    given = layer(storage, tmp_path, "modules", {"a.py": text})
    again = Storage(tmp_path / "again")
    for file in (given, interpreter):
        again.take(storage.path(file), file.name)
    assert bytecode.bytecode_layer("m", given, [interpreter], storage) == bytecode.bytecode_layer(
        "m", given, [interpreter], again
    )


def test_module_that_does_not_compile_is_named(
    storage: Storage, interpreter: StoredFile, tmp_path: Path
):
    given = layer(storage, tmp_path, "modules", {"opt/wrong.py": "x = = 1\n"})
    with pytest.raises(ToolError, match=r"wrong\.py"):
        bytecode.bytecode_layer("modules", given, [interpreter], storage)
