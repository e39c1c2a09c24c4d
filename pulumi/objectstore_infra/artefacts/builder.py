"""Makes declared artefacts, or finds them in the cache, and lays them out as a bundle.

An artefact is made anew only when something that decides it has changed: its declaration, its lock
files, or the artefacts that it is made from. What Debian's suite carries was decided by the first
build; a fresh one asks again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from objectstore_infra.apt_sources import read_sources
from objectstore_infra.artefacts import (
    debian,
    declaration,
    environment,
    golang,
    images,
    listing,
    source,
    trust,
    wheels,
)
from objectstore_infra.artefacts.declaration import (
    Artefact,
    Debian,
    Environment,
    Golang,
    Image,
    Source,
    Wheels,
)
from objectstore_infra.artefacts.errors import ArtefactError, DeclarationError
from objectstore_infra.artefacts.storage import Storage, StoredFile, cache_dir, key_of

MANIFEST = "manifest.in"
MIB = 1 << 20

Report = Callable[[str], None]


class Builder:
    """Makes the artefacts that the tree below `root` declares, in their order."""

    def __init__(self, root: Path, version: str, report: Report) -> None:
        declared = declaration.read(root / source.DECLARED / MANIFEST)
        self.declared = with_bundle_version(declared, version)
        self._root = root
        self._version = version
        self._content = source.content_version(root)
        self._storage = Storage(cache_dir() / "artefacts")
        self._go = cache_dir() / "go"
        self._report = report
        self._began = time.monotonic()
        self._made: dict[str, list[StoredFile]] = {}

    def make(self, names: Collection[str], *, fresh: bool = False) -> None:
        """Make the artefacts named and what they need; `fresh` asks Debian what there is now."""
        needed = self._needed(names)
        with ExitStack() as stack:
            asked = AskedOnce(self.declared, stack)
            for artefact in self.declared.artefacts:
                if artefact.name in needed and artefact.name not in self._made:
                    self._make_one(artefact, asked, fresh=fresh)
        self._storage.drop_old()

    def lock(self, names: Collection[str]) -> None:
        """Bring the lock files of the Go artefacts (all, or those named) to what is declared.

        Raises: DeclarationError: one named is no Go artefact.
        """
        programs = {a.name: a for a in self.declared.artefacts if isinstance(a, Golang)}
        unknown = sorted(set(names) - programs.keys())
        if unknown:
            raise DeclarationError(
                f"{unknown[0]} is no Go artefact", hint=f"one of: {', '.join(programs)}"
            )
        for artefact in (programs[name] for name in names or programs):
            self.make([artefact.toolchain])
            golang.lock(artefact, self._folder(artefact), self._toolchain(artefact))
            self.say(f"{artefact.name}: locked to {artefact.version}")

    def lay_out(self, folder: Path, names: Collection[str]) -> int:
        """Write the bundle: links to the files, the listing, its signature. Returns its bytes."""
        rows = [self._row(a) for a in self.declared.artefacts if a.name in names]
        for row in rows:
            for file in self._made[row["name"]]:
                self._storage.link(file, folder / row["name"] / file.name)
        listed: listing.Listing = {
            "format": listing.FORMAT,
            "version": self._version,
            "source": self._content,
            "suite": self.declared.suite,
            "guest": {"python": wheels.GUEST.python, "machine": wheels.GUEST.machine},
            "nodes": {
                "packages": [n for n in self.declared.nodes.packages if n in names],
                "files": self._node_files(self.declared.nodes.files, names),
                "store": self._node_files(self.declared.nodes.store, names),
            },
            "artefacts": rows,
        }
        listing.write(folder, listed, trust.own_key())
        return sum(row["size"] for _, row in listing.files(folder, listed))

    def _node_files(self, entries: Collection[str], names: Collection[str]) -> list[str]:
        """The paths of the files that these entries name, as far as the bundle ships them.

        Raises: ArtefactError: an artefact has no such file.
        """
        paths: list[str] = []
        for name, _, wanted in (entry.partition("/") for entry in entries):
            if name not in names:
                continue
            found = [file.name for file in self._made[name] if wanted in ("", file.name)]
            if not found:
                raise ArtefactError(f"{name} makes no file {wanted!r} for nodes")
            paths += (f"{name}/{file}" for file in found)
        return paths

    def say(self, line: str) -> None:
        """Report a line with the seconds since the build began."""
        self._report(f"{time.monotonic() - self._began:6.1f} s  {line}")

    def _make_one(self, artefact: Artefact, apt: AskedOnce, *, fresh: bool) -> None:
        key = self._key(artefact)
        asked_again = fresh and isinstance(artefact, Debian)
        known = None if asked_again else self._storage.recall(artefact.name, key)
        if known is None:
            self.say(
                f"{artefact.name}: making it ({self._source_of(artefact)}{expected(artefact)})"
            )
            began = time.monotonic()
            known = self._storage.remember(artefact.name, key, self._make_files(artefact, apt))
            size = sum(file.size for file in known) / MIB
            self.say(
                f"{artefact.name}: {len(known)} files, {size:.1f} MiB, "
                f"took {time.monotonic() - began:.1f} s"
            )
        self._made[artefact.name] = known
        if isinstance(artefact, Image):
            # The layout is the first image's; the others in it are listed without files.
            first, *others = self._layout(artefact)
            self._made[first.name] = known
            self._made.update((other.name, []) for other in others)

    def _key(self, artefact: Artefact) -> str:
        match artefact:
            case Debian():
                kept = [self._made[name] for name in artefact.without]
                return key_of("debian", self.declared.suite, artefact, kept)
            case Golang():
                toolchain = self._made[artefact.toolchain]
                return golang.inputs(artefact, self._folder(artefact), toolchain)
            case Wheels():
                text = (self._root / artefact.lock).read_text(encoding="utf-8")
                return key_of("pypi", wheels.GUEST, text)
            case Source():
                return key_of("source", self._version, self._content)
            case Environment():
                return environment.inputs(artefact, self._made)
            case Image():
                return images.inputs(self._layout(artefact), self._made)

    def _make_files(self, artefact: Artefact, apt: AskedOnce) -> list[StoredFile]:
        match artefact:
            case Debian():
                without = {
                    debian.package_of(file.name)
                    for name in artefact.without
                    for file in self._made[name]
                }
                return debian.make(artefact, apt(), self._storage, without)
            case Golang():
                toolchain = self._toolchain(artefact)
                folder = self._folder(artefact)
                return golang.make(artefact, folder, toolchain, self._storage, self.say)
            case Wheels():
                return wheels.make(wheels.read_lock(self._root / artefact.lock), self._storage)
            case Source():
                return source.make(self._root, self._version, self._storage)
            case Environment():
                return environment.make(artefact, self._made, self._storage)
            case Image():
                layout = self._layout(artefact)
                return images.make(layout, self.declared, self._made, self._storage)

    def _needed(self, names: Collection[str]) -> set[str]:
        """The artefacts named and all that they are made from."""
        needed = set(names)
        for artefact in reversed(self.declared.artefacts):
            if artefact.name in needed:
                if isinstance(artefact, Image):
                    for other in self._layout(artefact):
                        needed |= {other.name} | declaration.uses(other)
                needed |= declaration.uses(artefact)
        return needed

    def _layout(self, image: Image) -> list[Image]:
        """The images in the same layout as this one, in the order of the declaration."""
        found = [a for a in self.declared.artefacts if isinstance(a, Image)]
        return [other for other in found if other.layout == image.layout]

    def _folder(self, artefact: Golang) -> Path:
        return self.declared.folder / artefact.folder

    def _toolchain(self, artefact: Golang) -> golang.Toolchain:
        files = self._made[artefact.toolchain]
        return golang.unpack_toolchain(files, self._storage, self._go)

    def _row(self, artefact: Artefact) -> listing.ArtefactRow:
        row: listing.ArtefactRow = {
            "name": artefact.name,
            "version": self._version_of(artefact),
            "kind": artefact.kind,
            "source": self._source_of(artefact),
            "files": [
                {"name": file.name, "size": file.size, "sha256": file.sha256}
                for file in self._made[artefact.name]
            ],
        }
        if isinstance(artefact, Environment):
            row["contents"] = environment.contents(artefact, self._made)
        return row

    def _version_of(self, artefact: Artefact) -> str:
        match artefact:
            case Golang() | Image():
                return artefact.version
            case Source():
                return self._version
            case Environment():
                return environment.version_of(artefact, self._made)
            case Debian():
                first = artefact.packages[0]
                names = (file.name for file in self._made[artefact.name])
                return next(debian.version_of(n) for n in names if debian.package_of(n) == first)
            case Wheels():
                return ""

    def _source_of(self, artefact: Artefact) -> str:
        match artefact:
            case Debian():
                return f"Debian {self.declared.suite}: {' '.join(artefact.packages)}"
            case Golang():
                return f"Go module {artefact.module} v{artefact.version}"
            case Wheels():
                return artefact.lock
            case Source():
                return f"this tree, {self._content}"
            case Environment():
                return " ".join((*artefact.wheels, artefact.installer))
            case Image():
                return " ".join((*artefact.layers, *artefact.files))


class AskedOnce:
    """apt over the guest's suite, opened by the first call; its lists are fetched once."""

    def __init__(self, declared: declaration.Declaration, stack: ExitStack) -> None:
        self._declared = declared
        self._stack = stack
        self._apt: debian.Apt | None = None

    def __call__(self) -> debian.Apt:
        if self._apt is None:
            debians = (a for a in self._declared.artefacts if isinstance(a, Debian))
            pockets = tuple(dict.fromkeys(pocket for a in debians for pocket in a.pockets))
            opened = debian.opened(self._declared.suite, pockets, read_sources())
            self._apt = self._stack.enter_context(opened)
        return self._apt


def expected(artefact: Artefact) -> str:
    """What an operator who waits for it should know, appended to its source."""
    if not isinstance(artefact, Golang):
        return ""
    return f"; from nothing about {len(artefact.commands)} min on two processors"


def with_bundle_version(declared: declaration.Declaration, version: str) -> declaration.Declaration:
    """Put the bundle's version where an image's version asks for it, as an image's tag may read."""
    tag = version.replace("+", "_")
    artefacts = tuple(
        dataclasses.replace(a, version=a.version.format(bundle=tag)) if isinstance(a, Image) else a
        for a in declared.artefacts
    )
    return dataclasses.replace(declared, artefacts=artefacts)
