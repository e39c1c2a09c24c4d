"""Programs from Go modules: static, stripped, and the same bytes wherever they are built.

What decides the bytes: the folder's go.mod and go.sum (every module by hash, checked by the go
command), main.go where we choose the parts of a program ourselves, the flags below, and the
toolchain, which is Debian's, unpacked into the cache and never installed. No build id, no paths, no
version control, no time.

Kubernetes is not meant to be required as a module: its go.mod replaces the modules of its own
repository by folders. `lock` replaces them by the published modules of the same release instead
(v0.MINOR.PATCH for v1.MINOR.PATCH).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from objectstore_infra.artefacts.debian import packages_in
from objectstore_infra.artefacts.declaration import Golang, file_of
from objectstore_infra.artefacts.errors import ArtefactError, run_tool
from objectstore_infra.artefacts.storage import Storage, StoredFile, key_of

BUILD_TIMEOUT_S = 3600
STAGING = "./staging/src/"
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")
LINK_FLAGS = ("-s", "-w", "-buildid=")
HINT = "modules that the cache lacks come from the Go module proxy; the nodes need none"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """An unpacked Go toolchain and its caches."""

    go: Path
    identity: str
    """Hash of the packages that it was unpacked from."""
    modules: Path
    objects: Path

    def run(self, folder: Path, *arguments: str) -> str:
        """Run the go command in `folder` with nothing taken from this machine's settings."""
        environment = {
            "CGO_ENABLED": "0",
            "GOCACHE": str(self.objects),
            "GOENV": "off",
            "GOFLAGS": "",
            "GOMODCACHE": str(self.modules),
            "GOOS": "linux",
            "GOTELEMETRY": "off",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }
        return run_tool(
            [self.go, *arguments],
            cwd=folder,
            environment=environment,
            timeout_s=BUILD_TIMEOUT_S,
            hint=HINT,
        )


def unpack_toolchain(files: list[StoredFile], storage: Storage, root: Path) -> Toolchain:
    """Unpack Debian's packages of the toolchain below `root`, once."""
    identity = key_of(files)
    target = root / "toolchain" / identity
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            unpacked = Path(scratch) / "root"
            for file in packages_in(files):
                run_tool(["dpkg-deb", "-x", storage.path(file), unpacked], timeout_s=300)
            unpacked.rename(target)
    found = sorted(target.glob("usr/lib/go-*/bin/go"))
    if len(found) != 1:
        raise ArtefactError(f"the toolchain's packages hold {len(found)} go commands, not one")
    return Toolchain(found[0], identity, root / "modules", root / "objects")


def inputs(item: Golang, folder: Path, toolchain_files: list[StoredFile]) -> str:
    """Return the key of all that decides what `make` gives.

    Raises: ArtefactError: the folder is missing.
    """
    if not folder.is_dir():
        raise ArtefactError(f"{item.name}: {folder} is missing", hint=lock_hint(item))
    read = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    return key_of("go", item, read, FLAGS, LINK_FLAGS, toolchain_files)


def make(
    item: Golang,
    folder: Path,
    toolchain: Toolchain,
    storage: Storage,
    report: Callable[[str], None],
) -> list[StoredFile]:
    """Build the commands of `item`, each reported when it is there.

    Raises: ArtefactError: go.mod is not locked to the declared version; ToolError: the build.
    """
    require_locked(item, folder)
    stamps = " ".join(f"-X {stamp.format(version=item.version)}" for stamp in item.stamps)
    link = " ".join((*LINK_FLAGS, stamps)).strip()
    made = []
    with tempfile.TemporaryDirectory(prefix="objectstore-go-") as scratch:
        for command in item.commands:
            package, name = file_of(command)
            target = Path(scratch) / name
            toolchain.run(
                folder, "build", *FLAGS, f"-ldflags={link}", "-o", os.fspath(target), package
            )
            made.append(storage.take(target))
            report(f"{item.name}: {name}, {made[-1].size / (1 << 20):.1f} MiB")
    return made


def require_locked(item: Golang, folder: Path) -> None:
    """Refuse a folder whose go.mod asks for another version than the declared one."""
    own = item.module == "."
    text = (folder / "go.mod").read_text(encoding="utf-8")
    pattern = rf"^\s*(?:require\s+)?{re.escape(item.module)} v(\S+)"
    found = re.findall(pattern, text, re.MULTILINE)
    if not own and found != [item.version]:
        raise ArtefactError(
            f"{item.name}: {folder / 'go.mod'} requires {item.module} {found or 'nowhere'}, "
            f"declared is {item.version}",
            hint=lock_hint(item),
        )


def lock_hint(item: Golang) -> str:
    """What to do about a folder that is not locked to what is declared."""
    return f"lock it: objectstore bundle lock {item.name}"


def lock(item: Golang, folder: Path, toolchain: Toolchain) -> None:
    """Bring go.mod and go.sum of `folder` to the declared version."""
    if item.module == ".":
        return
    folder.mkdir(parents=True, exist_ok=True)
    module = f"{item.module}@v{item.version}"
    if not (folder / "go.mod").exists():
        toolchain.run(folder, "mod", "init", f"bundle/{item.name}")
    (folder / "go.sum").unlink(missing_ok=True)
    found = json.loads(toolchain.run(folder, "mod", "download", "-json", module))
    theirs = json.loads(toolchain.run(folder, "mod", "edit", "-json", found["GoMod"]))
    edits = [f"-require={module}", f"-go={theirs['Go']}"]
    if not (folder / "main.go").exists():
        edits += [f"-tool={file_of(command)[0]}" for command in item.commands]
    for replaced in theirs.get("Replace") or []:
        if replaced["New"]["Path"].startswith(STAGING):
            name = replaced["Old"]["Path"]
            edits.append(f"-replace={name}={name}@v0.{item.version.partition('.')[2]}")
    edits += [f"-godebug={row['Key']}={row['Value']}" for row in theirs.get("Godebug") or []]
    toolchain.run(folder, "mod", "edit", *edits)
    toolchain.run(folder, "mod", "tidy")
