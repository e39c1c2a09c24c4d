"""Make every declared artefact, or find it in the cache, and lay them out as a bundle.

Usage: python -m objectstore_infra.artefacts.builder build --version V [--output DIR] [--only NAME]…
       python -m objectstore_infra.artefacts.builder lock [--only NAME]…
       python -m objectstore_infra.artefacts.builder verify DIR

An artefact is made anew only when something that decides it has changed: its declaration, its lock
files, or the artefacts that it is made from. `--fresh` asks Debian again which versions there are.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from objectstore_infra import bundle
from objectstore_infra.apt_sources import read_sources
from objectstore_infra.artefacts import debian, declaration, golang, images, listing
from objectstore_infra.artefacts.declaration import Artefact, Debian, Golang, Image, Source, Wheels
from objectstore_infra.artefacts.storage import Storage, StoredFile, key_of
from objectstore_infra.errors import InfraError
from objectstore_infra.state_folder import state_folder

DECLARATION = bundle.REPOSITORY / "roles" / "bundle" / "files" / "manifest.in"
NOT_SHIPPED = "build-"
"""Artefacts with this prefix only serve to make others."""

Report = Callable[[str], None]


class Builder:
    """Makes the artefacts of one declaration, in its order."""

    def __init__(
        self, declared: declaration.Declaration, version: str, cache: Path, report: Report
    ) -> None:
        self._declared = with_bundle_version(declared, version)
        self._version = version
        self._content = bundle.source_version()
        self._storage = Storage(cache / "artefacts")
        self._go = cache / "go"
        self._report = report
        self._apt: debian.Apt | None = None
        self._open = ExitStack()
        self.made: dict[str, list[StoredFile]] = {}

    def make(self, *, only: Collection[str] = (), fresh: bool = False) -> None:
        """Make all artefacts, or those named and what they need."""
        wanted = self._needed(only) if only else {a.name for a in self._declared.artefacts}
        with self._open:
            for artefact in self._declared.artefacts:
                if artefact.name in wanted and artefact.name not in self.made:
                    self._make_one(artefact, fresh=fresh)

    def lock(self, only: Collection[str]) -> None:
        """Bring the lock files of the Go artefacts (all, or those named) to what is declared."""
        for artefact in self._declared.artefacts:
            if isinstance(artefact, Golang) and (not only or artefact.name in only):
                self.make(only=[artefact.toolchain])
                golang.lock(artefact, self._folder(artefact), self._toolchain(artefact))
                self._report(f"{artefact.name}: locked to {artefact.version}")

    def lay_out(self, folder: Path, key_file: Path) -> None:
        """Write the bundle: links to the files, the listing, its signature."""
        rows: list[listing.ArtefactRow] = []
        for artefact in self._declared.artefacts:
            files = self.made.get(artefact.name)
            if not files or artefact.name.startswith(NOT_SHIPPED):
                continue
            for file in files:
                self._storage.link(file, folder / artefact.name / file.name)
            rows.append(
                {
                    "name": artefact.name,
                    "version": self._version_of(artefact),
                    "kind": artefact.kind,
                    "source": _source_of(artefact, self._declared),
                    "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in files],
                }
            )
        listed: listing.Listing = {
            "format": listing.FORMAT,
            "version": self._version,
            "suite": self._declared.suite,
            "artefacts": rows,
        }
        listing.write(folder, listed, listing.signing_key(key_file))

    def _make_one(self, artefact: Artefact, *, fresh: bool) -> None:
        key = self._key(artefact)
        known = None if fresh and isinstance(artefact, Debian) else self._storage.recall(key)
        if known is None:
            began = time.monotonic()
            known = self._storage.remember(key, self._files(artefact))
            size = sum(file.size for file in known) / (1 << 20)
            self._report(
                f"{artefact.name}: made {len(known)} files, {size:.1f} MiB, "
                f"in {time.monotonic() - began:.1f} s"
            )
        self.made[artefact.name] = known
        if isinstance(artefact, Image):
            for other in self._archive(artefact):
                self.made[other.name] = known if other is self._archive(artefact)[0] else []

    def _key(self, artefact: Artefact) -> str:
        match artefact:
            case Debian():
                kept = [self.made[name] for name in artefact.without]
                return key_of("debian", self._declared.suite, artefact, kept)
            case Golang():
                toolchain = self.made[artefact.toolchain]
                return golang.inputs(artefact, self._folder(artefact), toolchain)
            case Wheels():
                text = (bundle.REPOSITORY / artefact.lock).read_text(encoding="utf-8")
                return key_of("pypi", bundle.GUEST, text)
            case Source():
                return key_of("source", self._version, self._content)
            case Image():
                return images.inputs(self._archive(artefact), self.made)

    def _files(self, artefact: Artefact) -> list[StoredFile]:
        match artefact:
            case Debian():
                without = {
                    debian.package_of(file.name)
                    for name in artefact.without
                    for file in self.made[name]
                }
                return debian.make(artefact, self._asked_apt(), self._storage, without)
            case Golang():
                toolchain = self._toolchain(artefact)
                return golang.make(artefact, self._folder(artefact), toolchain, self._storage)
            case Wheels():
                locked = bundle.read_lock(bundle.REPOSITORY / artefact.lock)
                found = bundle.fetch(locked, artefact.name, self._report)
                return [self._storage.take(wheel) for wheel in found]
            case Source():
                content, root = self._content, bundle.REPOSITORY
                wheel = bundle.our_wheel(self._version, content, root, self._report)
                return [self._storage.take(wheel)]
            case Image():
                archive = self._archive(artefact)
                return images.make(archive, self._declared, self.made, self._storage)

    def _needed(self, only: Collection[str]) -> set[str]:
        """The artefacts named and all that they are made from."""
        needed = set(only)
        for artefact in reversed(self._declared.artefacts):
            if artefact.name in needed:
                if isinstance(artefact, Image):
                    for other in self._archive(artefact):
                        needed |= {other.name} | declaration.uses(other)
                needed |= declaration.uses(artefact)
        return needed

    def _archive(self, image: Image) -> list[Image]:
        """The images that share an archive with this one, in the order of the declaration."""
        found = [a for a in self._declared.artefacts if isinstance(a, Image)]
        return [other for other in found if other.archive == image.archive]

    def _folder(self, artefact: Golang) -> Path:
        return self._declared.folder / artefact.folder

    def _toolchain(self, artefact: Golang) -> golang.Toolchain:
        files = self.made[artefact.toolchain]
        return golang.unpack_toolchain(files, self._storage, self._go)

    def _asked_apt(self) -> debian.Apt:
        """apt over the guest's suite, its lists fetched once for a build."""
        if self._apt is None:
            declared = (a for a in self._declared.artefacts if isinstance(a, Debian))
            pockets = tuple(dict.fromkeys(pocket for a in declared for pocket in a.pockets))
            opened = debian.opened(self._declared.suite, pockets, read_sources())
            self._apt = self._open.enter_context(opened)
        return self._apt

    def _version_of(self, artefact: Artefact) -> str:
        if isinstance(artefact, (Golang, Image)):
            return artefact.version
        if isinstance(artefact, Source):
            return self._version
        if isinstance(artefact, Debian):
            first = artefact.packages[0]
            names = (file.name for file in self.made[artefact.name])
            return next(debian.version_of(n) for n in names if debian.package_of(n) == first)
        return ""


def build(
    version: str,
    *,
    declared: Path = DECLARATION,
    output: Path | None = None,
    only: Collection[str] = (),
    fresh: bool = False,
    report: Report = print,
) -> Path:
    """Build the bundle of `version`; return its folder, which appears only when complete."""
    builder = Builder(declaration.read(declared), version, bundle.cache_dir(), report)
    builder.make(only=only, fresh=fresh)
    folder = (output or bundle.bundles_dir()) / version
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as scratch:
        staged = Path(scratch) / "bundle"
        staged.mkdir()
        builder.lay_out(staged, state_folder() / "bundle-key")
        if folder.is_dir():
            shutil.rmtree(folder)
        staged.rename(folder)
    return folder


def with_bundle_version(declared: declaration.Declaration, version: str) -> declaration.Declaration:
    """Put the bundle's version where an image's version asks for it, as an image's tag may read."""
    tag = version.replace("+", "_")
    artefacts = tuple(
        dataclasses.replace(a, version=a.version.format(bundle=tag)) if isinstance(a, Image) else a
        for a in declared.artefacts
    )
    return dataclasses.replace(declared, artefacts=artefacts)


def _source_of(artefact: Artefact, declared: declaration.Declaration) -> str:
    match artefact:
        case Debian():
            return f"Debian {declared.suite}: {' '.join(artefact.packages)}"
        case Golang():
            return f"Go module {artefact.module} v{artefact.version}"
        case Wheels():
            return artefact.lock
        case Source():
            return "this tree"
        case Image():
            return " ".join((*artefact.layers, *artefact.files))


def main() -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="objectstore_infra.artefacts.builder")
    parser.add_argument("action", choices=("build", "lock", "verify"))
    parser.add_argument("folder", nargs="?", type=Path, help="the bundle to verify")
    parser.add_argument("--version", default="0")
    parser.add_argument("--declaration", type=Path, default=DECLARATION)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    began = time.monotonic()
    try:
        if given.action == "lock":
            declared = declaration.read(given.declaration)
            Builder(declared, given.version, bundle.cache_dir(), print).lock(given.only)
        elif given.action == "build":
            folder = build(
                given.version,
                declared=given.declaration,
                output=given.output,
                only=given.only,
                fresh=given.fresh,
            )
            print(f"bundle {given.version}: {folder}, {time.monotonic() - began:.1f} s")
        else:
            key = listing.public_text(listing.signing_key(state_folder() / "bundle-key"))
            found = listing.verify(given.folder, {key})
            print(f"bundle {found['version']} is complete: {len(found['artefacts'])} artefacts")
    except InfraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
