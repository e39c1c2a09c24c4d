"""The content-addressed cache: files by what they hold, and which files a set of inputs gave.

    ROOT/files/SHA256        a file, read-only, never changed
    ROOT/made/KEY.json       names, sizes and sums of the files made from the inputs hashed to KEY

Both appear by rename, so that an interrupted build leaves nothing half. Two builds at once make the
same files and the later rename wins; both hold the same content.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

KEY_LENGTH = 32


@dataclass(frozen=True, slots=True, order=True)
class StoredFile:
    """A file of the cache under the name that it has in a bundle."""

    name: str
    size: int
    sha256: str


class Storage:
    """The cache below one folder."""

    def __init__(self, root: Path) -> None:
        self._files = root / "files"
        self._made = root / "made"
        for folder in (self._files, self._made):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, file: StoredFile) -> Path:
        """Return where the file's content lies."""
        return self._files / file.sha256

    def take(self, source: Path, name: str | None = None) -> StoredFile:
        """Copy a file into the cache, unless its content is there already."""
        sha256 = sha256_of(source)
        target = self._files / sha256
        if not target.exists():
            with tempfile.NamedTemporaryFile(dir=self._files, delete=False) as scratch:
                with source.open("rb") as content:
                    shutil.copyfileobj(content, scratch)
                os.fchmod(scratch.fileno(), 0o444)
            Path(scratch.name).rename(target)
        return StoredFile(name or source.name, target.stat().st_size, sha256)

    def recall(self, key: str) -> list[StoredFile] | None:
        """Return what was made under `key`, or None when it was not or a file is gone since."""
        try:
            rows = json.loads((self._made / f"{key}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        files = [StoredFile(**row) for row in rows]
        return files if all(self._is_whole(file) for file in files) else None

    def remember(self, key: str, files: Iterable[StoredFile]) -> list[StoredFile]:
        """Note that the inputs hashed to `key` give these files; returns them sorted by name."""
        kept = sorted(files)
        with tempfile.NamedTemporaryFile("w", dir=self._made, delete=False) as scratch:
            json.dump([asdict(file) for file in kept], scratch, indent=1)
        Path(scratch.name).rename(self._made / f"{key}.json")
        return kept

    def link(self, file: StoredFile, target: Path) -> None:
        """Make `target` that file: a hard link where the file system allows it, else a copy."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path(file), target)
        except OSError:
            shutil.copyfile(self.path(file), target)

    def _is_whole(self, file: StoredFile) -> bool:
        path = self.path(file)
        return path.exists() and path.stat().st_size == file.size


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(*inputs: object) -> str:
    """Return the key of these inputs; each enters with its type's own text."""
    digest = hashlib.sha256("\0".join(map(repr, inputs)).encode())
    return digest.hexdigest()[:KEY_LENGTH]
