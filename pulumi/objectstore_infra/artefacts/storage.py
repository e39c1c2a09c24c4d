"""The content-addressed cache: files by what they hold, and which files a set of inputs gave.

    ROOT/files/SHA256            a file, read-only, never changed
    ROOT/made/NAME/KEY.json      the files that NAME gave for the inputs hashed to KEY

Both appear by rename, so that an interrupted build leaves nothing half. Two builds at once make the
same files and the later rename wins; both hold the same content. A file is handed out only after
its content was held against its sum: what was damaged on the disk is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

KEY_LENGTH = 32
KEPT_PER_NAME = 5
UNUSED_S_MIN = 6 * 3600
"""A file that was taken this recently may belong to a build that has not noted it yet."""


@dataclass(frozen=True, slots=True, order=True)
class StoredFile:
    """A file of the cache under the name that it has in a bundle."""

    name: str
    size: int
    sha256: str


class Storage:
    """The cache below one folder."""

    def __init__(self, root: Path) -> None:
        self._lock = root / "lock"
        self._files = root / "files"
        self._made = root / "made"
        for folder in (self._files, self._made):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, file: StoredFile) -> Path:
        """Return where the file's content lies."""
        return self._files / file.sha256

    def take(self, source: Path, name: str | None = None) -> StoredFile:
        """Copy a file into the cache, unless its content is there already."""
        file = StoredFile(name or source.name, source.stat().st_size, sha256_of(source))
        target = self.path(file)
        if self._is_whole(file):
            os.utime(target)
            return file
        with tempfile.NamedTemporaryFile(dir=self._files, delete=False) as scratch:
            with source.open("rb") as content:
                shutil.copyfileobj(content, scratch)
            os.fchmod(scratch.fileno(), 0o444)
        Path(scratch.name).rename(target)
        return file

    def put(self, name: str, content: bytes) -> StoredFile:
        """Put a small file into the cache."""
        with tempfile.NamedTemporaryFile() as scratch:
            scratch.write(content)
            scratch.flush()
            return self.take(Path(scratch.name), name)

    def recall(self, name: str, key: str) -> list[StoredFile] | None:
        """Return what `name` gave for these inputs, or None when that is not known or not whole."""
        record = self._made / name / f"{key}.json"
        try:
            os.utime(record)
            rows = json.loads(record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        files = [StoredFile(**row) for row in rows]
        return files if all(map(self._is_whole, files)) else None

    def remember(self, name: str, key: str, files: Iterable[StoredFile]) -> list[StoredFile]:
        """Note what `name` gave for the inputs hashed to `key`; returns the files, by name."""
        kept = sorted(files)
        folder = self._made / name
        folder.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as scratch:
            json.dump([asdict(file) for file in kept], scratch, indent=1)
        Path(scratch.name).rename(folder / f"{key}.json")
        return kept

    def link(self, file: StoredFile, target: Path) -> None:
        """Make `target` that file: a hard link where the file system allows it, else a copy."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path(file), target)
        except OSError:
            shutil.copyfile(self.path(file), target)

    def drop_old(self) -> None:
        """Forget all but what each name gave last, and remove the files that nothing names."""
        with self._lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self._drop_files_but(self._drop_records())

    def _drop_records(self) -> set[str]:
        """Drop the older records of each name; returns the sums in those that are kept."""
        used: set[str] = set()
        for folder in self._made.iterdir():
            records = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for record in records[:-KEPT_PER_NAME]:
                record.unlink()
            for record in records[-KEPT_PER_NAME:]:
                used |= {row["sha256"] for row in json.loads(record.read_text(encoding="utf-8"))}
        return used

    def _drop_files_but(self, used: set[str]) -> None:
        unused_before = time.time() - UNUSED_S_MIN
        for path in self._files.iterdir():
            with suppress(FileNotFoundError):  # another build gave it its name meanwhile
                if path.name not in used and path.stat().st_mtime < unused_before:
                    path.unlink()

    def _is_whole(self, file: StoredFile) -> bool:
        path = self.path(file)
        return path.exists() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def cache_dir() -> Path:
    """Where the operator's side keeps what it has fetched and made."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "objectstore"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(*inputs: object) -> str:
    """Return the key of these inputs; each enters with its type's own text."""
    digest = hashlib.sha256("\0".join(map(repr, inputs)).encode())
    return digest.hexdigest()[:KEY_LENGTH]
