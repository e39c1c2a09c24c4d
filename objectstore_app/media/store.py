"""The data folder of an embedded store: layout, creation, locks (docs/formats/store.md).

`store.json` is written last and by a rename, so a folder either is a store or is not; a creation
that was interrupted goes on where it stopped. What it finds of the interrupted one was seen, and
need not be on the disk yet, so that it is flushed once more. A running writer holds the lock of
each shard it hosts; the kernel drops locks with the process.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from ..core.errors import ObjectStoreError
from ..core.ids import ShardId
from ..core.room import free_bytes
from .errors import MediaFullError
from .segments import DIRECTORY_SHARD, SHARDS_MAX, shard_folder

STORE_FORMAT = 1
MASTER_KEY_BYTES = 32
_OWN_NAMES = frozenset(
    ("keys", "tls", "directory", "chunks", "run", "atlas", "lost+found", ".store.json.tmp")
)


class StoreFolderError(ObjectStoreError):
    """The data folder cannot be used; the hint says what would help."""


class StoreInUseError(StoreFolderError):
    """Another process holds the folder."""


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What `store.json` holds."""

    format: int
    store_id: str
    data_shards: int
    region: str


@dataclass(frozen=True, slots=True)
class Store:
    """An existing data folder and the paths in it."""

    path: Path
    info: StoreInfo

    @property
    def shards(self) -> tuple[ShardId, ...]:
        """The directory, then the data shards."""
        return (DIRECTORY_SHARD, *map(ShardId, range(self.info.data_shards)))

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def chunks(self) -> Path:
        return self.path / "chunks"

    @property
    def generation(self) -> Path:
        return self.path / "directory" / "generation"

    @property
    def master_key_path(self) -> Path:
        return self.path / "keys" / "master.key"

    def shard(self, shard: ShardId) -> Path:
        return self.path / shard_folder(shard)

    def view(self, shard: ShardId) -> Path:
        return self.shard(shard) / "view.sqlite"

    def socket_name(self, shard: ShardId) -> str:
        """The socket's name inside `run`; see `socket_address`."""
        return f"{shard_folder(shard)}.sock"

    def master_key(self) -> bytes:
        """The 32 bytes that seal secrets at rest. Raises StoreFolderError."""
        try:
            key = self.master_key_path.read_bytes()
        except OSError as error:
            raise StoreFolderError(
                "read master key", str(self.master_key_path), str(error)
            ) from error
        if len(key) != MASTER_KEY_BYTES:
            raise StoreFolderError(
                "read master key", str(self.master_key_path), f"must be {MASTER_KEY_BYTES} bytes"
            )
        return key

    def lock(self, name: str) -> FolderLock:
        """Take the lock `run/NAME.lock`. Raises StoreInUseError when another process holds it."""
        return FolderLock(self.run / f"{name}.lock")

    def lock_shard(self, shard: ShardId) -> FolderLock:
        """What the writer of a shard holds as long as it lives."""
        return self.lock(shard_folder(shard))


class FolderLock:
    """An exclusive lock that ends with `release` or with the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreInUseError(
                "open store", str(path.parent.parent), f"in use by process {holder}"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def keep(self) -> None:
        """Hold it until the process ends, whichever program the process runs meanwhile."""
        os.set_inheritable(self._fd, True)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def open_store(
    data_dir: Path | str, *, create: bool = True, data_shards: int = 1, region: str = "us-east-1"
) -> Store:
    """Open a data folder, creating it when it is missing or empty (`data_shards` and `region` count
    only then).

    Raises StoreFolderError: not a store, of a newer format, unreadable or unwritable.
    """
    path = Path(data_dir).absolute()
    try:
        if not (path / "store.json").exists():
            if not create:
                raise StoreFolderError("open store", str(path), "there is no store here")
            _create(path, data_shards, region)
        elif create:
            sync_folder(path)  # who made it may have been killed before
        (path / "run").mkdir(exist_ok=True)
        raw = (path / "store.json").read_bytes()
    except OSError as error:
        raise StoreFolderError("open store", str(path), str(error)) from error
    return Store(path, _decode(path, raw))


def _decode(path: Path, raw: bytes) -> StoreInfo:
    try:
        found = msgspec.json.decode(raw, type=dict[str, object]).get("format")
        if isinstance(found, int) and found > STORE_FORMAT:
            raise StoreFolderError(
                "open store",
                str(path),
                f"its format {found} is newer than this release's {STORE_FORMAT}: use a newer one",
            )
        return msgspec.json.decode(raw, type=StoreInfo)
    except msgspec.MsgspecError as error:
        raise StoreFolderError(
            "open store", str(path), f"store.json is damaged: {error}"
        ) from error


def _create(path: Path, data_shards: int, region: str) -> None:
    if not 1 <= data_shards <= SHARDS_MAX:
        raise StoreFolderError("create store", str(path), f"1 to {SHARDS_MAX} data shards")
    path.mkdir(parents=True, exist_ok=True)
    foreign = sorted(
        name for name in os.listdir(path) if name not in _OWN_NAMES and name[:6] != "shard-"
    )
    if foreign:
        raise StoreFolderError(
            "create store", str(path), f"the folder holds other files: {foreign[0]}"
        )
    folders = ["keys", "tls", "directory", "chunks", "run"]
    folders += [shard_folder(ShardId(number)) for number in range(data_shards)]
    for name in folders:
        (path / name).mkdir(exist_ok=True, mode=0o755 if name == "tls" else 0o700)
    with FolderLock(path / "run" / "create.lock"):
        if (path / "store.json").exists():
            return
        if not (path / "keys" / "master.key").exists():
            write_durably(path / "keys" / "master.key", secrets.token_bytes(MASTER_KEY_BYTES))
        for folder in (path / "keys", path.parent):
            sync_folder(folder)
        info = StoreInfo(
            format=STORE_FORMAT,
            store_id=secrets.token_hex(16),
            data_shards=data_shards,
            region=region,
        )
        write_durably(path / "store.json", msgspec.json.format(msgspec.json.encode(info)) + b"\n")


def write_durably(path: Path, content: bytes) -> None:
    """Write by a rename: the name appears with all of the content or not at all. Mode 0600."""
    draft = path.with_name(f".{path.name}.tmp")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, content, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(draft, path)
    sync_folder(path.parent)


def write_all(fd: int, content: bytes, offset: int) -> None:
    """Write every byte: a disk that fills up takes some of them first. Raises OSError."""
    while content:
        done = os.pwrite(fd, content, offset)
        content, offset = content[done:], offset + done


def check_room(folder: Path, free_bytes_min: int) -> None:
    """Raise MediaFullError when the folder's file system has less room left than that: the views
    need some to commit what the logs hold. Raises OSError.
    """
    free = free_bytes(folder)
    if free < free_bytes_min:
        raise MediaFullError(
            "write", str(folder), f"{free} bytes are free, {free_bytes_min} are kept for the views"
        )


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
