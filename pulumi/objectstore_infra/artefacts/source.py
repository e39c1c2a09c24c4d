"""This source tree as an artefact: the version of its content, and its wheel.

A bundle's version is either given (a release) or made from the content of the tree
(`0.1.0+src.1f0c…`), so that equal trees have equal versions and a changed one never hides behind
an old name.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from objectstore_infra.artefacts import wheels
from objectstore_infra.artefacts.errors import ArtefactError
from objectstore_infra.artefacts.storage import Storage, StoredFile

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE = "objectstore_app"
PROJECT = "pyproject.toml"
DECLARED = "pulumi/objectstore_infra/artefacts/files"
LOCKS = ("requirements/serve.txt", "requirements/envoy.txt", "requirements/installer.txt")
SUFFIXES = {".py", ".json", ".j2", ".typed"}
VERSION_LINE = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
MARK = "+src."


def content_version(root: Path = REPOSITORY) -> str:
    """The version that a bundle of this tree gets when none is given: release and content hash."""
    digest = hashlib.sha256()
    for path in source_files(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{declared_version(root)}{MARK}{digest.hexdigest()[:12]}"


def source_files(root: Path) -> list[Path]:
    """Every file whose content decides what a bundle holds, in a fixed order."""
    declared = (path for path in (root / DECLARED).rglob("*") if path.is_file())
    return sorted([*wheel_files(root), *(root / name for name in LOCKS), *declared])


def wheel_files(root: Path) -> list[Path]:
    """The files that our own wheel is built from."""
    package = (p for p in (root / PACKAGE).rglob("*") if p.suffix in SUFFIXES)
    return [root / PROJECT, *(p for p in package if "__pycache__" not in p.parts)]


def declared_version(root: Path) -> str:
    """The release that the tree says it is."""
    init = root / PACKAGE / "__init__.py"
    found = VERSION_LINE.findall(init.read_text(encoding="utf-8"))
    if len(found) != 1:
        raise ArtefactError(f"{init} states __version__ {len(found)} times, not once")
    return str(found[0])


def make(root: Path, version: str, storage: Storage) -> list[StoredFile]:
    """Build our own wheel from a copy of the tree that states `version`."""
    with tempfile.TemporaryDirectory(prefix="objectstore-source-") as scratch:
        tree, folder = Path(scratch) / "tree", Path(scratch) / "wheel"
        copy_stamped(root, tree, version)
        wheels.pip(["wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(tree)])
        (wheel,) = folder.glob("*.whl")
        return [storage.take(wheel)]


def copy_stamped(root: Path, tree: Path, version: str) -> None:
    """Copy what the wheel is built from and put `version` in the one place that states it."""
    for path in wheel_files(root):
        target = tree / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (tree / "README.md").write_text("An S3 object store that deploys itself.\n", encoding="utf-8")
    init = tree / PACKAGE / "__init__.py"
    stamped = VERSION_LINE.sub(f'__version__ = "{version}"', init.read_text(encoding="utf-8"))
    init.write_text(stamped, encoding="utf-8")
