"""Backups of the operator's side of a store: one sealed archive with all that cannot be made anew.

    state/stacks/PROJECT/STACK.json    the stack's state, in it the master key
    state/passphrase                   opens the secrets of the state
    state/bundle-key, state/trusted-bundle-keys
    state/stores/NAME/…                authorities, Ceph's keys, kubeconfigs, etcd's newest snapshot
    description/Pulumi.STACK.yaml      the description of the store

Objects, buckets and people are not in it: they lie in Ceph. `write` packs and seals, `read` opens
and verifies, `restore` puts the files back where `write` found them, and never over others.
The format is docs/formats/backup.md; the sealing of it is `backup_seal`.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import cast

from objectstore_infra import backup_seal, state_folder
from objectstore_infra.artefacts import trust
from objectstore_infra.engine import operations
from objectstore_infra.engine.passphrase import find_passphrase
from objectstore_infra.errors import BackupError

FORMAT = 1
LISTING = "listing.json"
OPENS_STATE = "state/passphrase"
UNPACKED_BYTES_MAX = 2 << 30
MASTER_KEY_TYPE = "objectstore:index:MasterKey"
_COMPONENT = "objectstore:components:ObjectStore"
# What a run leaves for the operator to look at, and locks: not needed again.
_PASSING = ("ansible-*.log", "diagnostics*", "status.json", ".*")


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a backup."""

    store: str
    stack: str
    project: str
    version: str
    taken: str
    """UTC, as 20260131T235959Z."""
    files: Mapping[str, str]
    """Path in the archive → sha256."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was opened and verified."""

    listing: Listing
    contents: Mapping[str, bytes]


def write(store: str, project: Path, taken: str, secret: str, file: Path) -> Listing:
    """Write the backup of a store to a new file, readable by its owner alone.

    `project` is the folder of the Pulumi project, `secret` what the archive is sealed with. Returns
    when the file is durable and was read again. Raises BackupError.
    """
    state = state_folder.state_folder()
    stack_file = find_stack(state, store)
    stack = stack_file.name.removesuffix(".json")
    passphrase, _ = find_passphrase(state)
    contents = {OPENS_STATE: f"{passphrase}\n".encode()}
    for source, name in _sources(state, store, stack_file, project / f"Pulumi.{stack}.yaml"):
        contents[name] = source.read_bytes()
    check_master_key(project, stack, store)
    listing = Listing(
        store=store,
        stack=stack,
        project=stack_file.parent.name,
        version=_version(state, store),
        taken=taken,
        files={name: hashlib.sha256(text).hexdigest() for name, text in sorted(contents.items())},
    )
    try:
        state_folder.write_new(file, backup_seal.seal(_packed(listing, contents), secret))
    except OSError as error:
        raise BackupError(f"cannot write {file}: {error.strerror}") from error
    if read(file, secret).listing != listing:
        raise BackupError(f"{file} does not read back as it was written")
    return listing


def find_stack(state: Path, store: str) -> Path:
    """Return the state file of the stack that made a store. Raises BackupError."""
    kept = [*state.glob("stacks/*/*.json"), *state.glob("pulumi-cli/.pulumi/stacks/*/*.json")]
    found = [file for file in kept if f'{_COMPONENT}::{store}"' in file.read_text(encoding="utf-8")]
    if len(found) != 1:
        said = ", ".join(map(str, found)) or f"no stack below {state}"
        raise BackupError(f"the stack of the store {store} is not found: {said}")
    return found[0]


def check_master_key(project: Path, stack: str, store: str) -> None:
    """See that the state opens and holds the store's master key: without it, what is encrypted is
    lost. States of the real `pulumi` command are not opened here. Raises BackupError.
    """
    kept = operations.Stack(project, stack, state_folder.state_folder(), lambda text: None)
    if not kept.exists():
        return
    deployment = cast("Mapping[str, list[Mapping[str, object]]]", kept.export()["deployment"])
    held = [row for row in deployment["resources"] if row["type"] == MASTER_KEY_TYPE]
    outputs = [cast("Mapping[str, object]", row["outputs"]) for row in held if row["id"] == store]
    if not any("key" in found for found in outputs):
        raise BackupError(f"the state of stack {stack} holds no master key of {store}")


def read(file: Path, secret: str) -> Backup:
    """Open a backup and verify all of it. Raises BackupError."""
    try:
        sealed = file.read_bytes()
    except OSError as error:
        raise BackupError(f"cannot read {file}: {error.strerror}") from error
    contents = dict(_unpacked(backup_seal.unseal(sealed, secret)))
    listing = _listing(contents.pop(LISTING, b""), file)
    found = {name: hashlib.sha256(text).hexdigest() for name, text in contents.items()}
    if found != listing.files:
        wrong = sorted({name for name, _ in found.items() ^ listing.files.items()})
        raise BackupError(f"{file} does not hold what it lists: {', '.join(wrong)}")
    return Backup(listing, contents)


def restore(backup: Backup, project: Path) -> list[Path]:
    """Put the files back; returns those that were written, none when all are there already.

    Nothing is written when any file is there with other contents. Raises BackupError naming those.
    """
    state = state_folder.state_folder()
    wanted = {_place(name, state, project): text for name, text in backup.contents.items()}
    there = {path for path in wanted if path.exists()}
    other = sorted(str(path) for path in there if not _same(path, wanted[path]))
    if other:
        raise BackupError(
            f"other files are there already: {', '.join(other)}",
            hint="move them away; or, to keep both, name an empty folder in OBJECTSTORE_STATE_DIR",
        )
    missing = [path for path in wanted if path not in there]
    for path in missing:
        state_folder.write_new(path, wanted[path])
    return missing


def _same(path: Path, text: bytes) -> bool:
    # A last line may end or not: the passphrase is written by whoever chose it.
    return path.read_bytes().rstrip() == text.rstrip()


def _sources(
    state: Path, store: str, stack_file: Path, description: Path
) -> Iterator[tuple[Path, str]]:
    """Yield the files to keep, each with its name in the archive."""
    yield stack_file, f"state/{stack_file.relative_to(state)}"
    for name in (trust.KEY, trust.TRUSTED):
        if (state / name).is_file():
            yield state / name, f"state/{name}"
    if description.is_file():
        yield description, f"description/{description.name}"
    folder = state / "stores" / store
    if not (folder / state_folder.INVENTORY).is_file():
        raise BackupError(f"{folder} is not the folder of a store")
    snapshots = sorted((folder / "etcd").glob("*.db"))
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        passing = any(fnmatch(part, pattern) for part in parts for pattern in _PASSING)
        if file.is_file() and not passing and file not in snapshots[:-1]:
            yield file, f"state/{file.relative_to(state)}"


def _version(state: Path, store: str) -> str:
    text = (state / "stores" / store / state_folder.INVENTORY).read_text(encoding="utf-8")
    version: str = json.loads(text)["all"]["vars"]["objectstore_version"]
    return version


def _packed(listing: Listing, contents: Mapping[str, bytes]) -> bytes:
    told = {"format": FORMAT, **asdict(listing)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        text = json.dumps(told, indent=1).encode()
        for name, content in [(LISTING, text), *sorted(contents.items())]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _unpacked(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of each file. Raises BackupError."""
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
            for entry in archive:
                size += entry.size
                content = archive.extractfile(entry) if entry.isfile() else None
                if content is None or size > UNPACKED_BYTES_MAX:
                    raise BackupError(f"what is packed is no backup: {entry.name}")
                yield entry.name, content.read()
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"what is packed is no archive: {error}") from error


def _listing(text: bytes, file: Path) -> Listing:
    try:
        told = json.loads(text)
        if told.pop("format") != FORMAT:
            raise BackupError(f"{file} was made by a newer release than this one")
        return Listing(**told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{file} has no listing that can be read: {error!r}") from error


def _place(name: str, state: Path, project: Path) -> Path:
    """Return where a file of the archive belongs. Raises BackupError for what belongs nowhere."""
    root, *rest = PurePosixPath(name).parts
    folder = {"state": state, "description": project}.get(root)
    if folder is None or not rest or ".." in rest:
        raise BackupError(f"the backup names a file that belongs nowhere: {name}")
    return folder.joinpath(*rest)
