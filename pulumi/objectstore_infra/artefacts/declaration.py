"""The declaration (`manifest.in`, TOML): which artefacts there are and what they are made from.

Each `[[artefact]]` has a name, a kind and the keys of that kind, described at the classes below.
`[profiles]` says which artefacts a bundle ships; what these are made from is made but not shipped.
Everything wrong is a DeclarationError that names the artefact and the key. An artefact may use only
artefacts declared above it, so that the file's order is the order of the build.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_type_hints

from objectstore_infra.artefacts.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Debian:
    """Packages of Debian with all that they depend on."""

    kind: ClassVar[str] = "debian"
    name: str
    packages: tuple[str, ...]
    version: str = ""
    """What the first package's version must begin with; empty: whatever the suite carries."""
    pockets: tuple[str, ...] = ("", "-updates", "-security")
    """Appended to the guest's suite; a pocket that comes last is asked for by name only."""
    without: tuple[str, ...] = ()
    """Debian artefacts whose packages are there already and are left out."""
    alone: bool = False
    """Take the packages named and nothing that they depend on."""


@dataclass(frozen=True, slots=True)
class Golang:
    """Programs of a Go module, built with a pinned toolchain from checked modules."""

    kind: ClassVar[str] = "go"
    name: str
    version: str
    module: str
    """The module whose version this is; the folder's go.mod must require exactly it."""
    folder: str
    """Holds go.mod, go.sum and, for programs of our own choice of parts, main.go."""
    commands: tuple[str, ...]
    """`PACKAGE` or `PACKAGE=FILE`; the file is else called after the package's last part."""
    toolchain: str
    """The Debian artefact that holds the Go toolchain."""
    stamps: tuple[str, ...] = ()
    """`VARIABLE=VALUE` given to the linker; {version} stands for the version."""


@dataclass(frozen=True, slots=True)
class Wheels:
    """The wheels of a lock file, for the guest."""

    kind: ClassVar[str] = "pypi"
    name: str
    lock: str


@dataclass(frozen=True, slots=True)
class Source:
    """The wheel of this tree, stamped with the bundle's version."""

    kind: ClassVar[str] = "source"
    name: str


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python environment for nodes, as one archive of wheels."""

    kind: ClassVar[str] = "environment"
    name: str
    package: str
    """The Python package whose version is the environment's."""
    wheels: tuple[str, ...]
    """pypi or source artefacts: what is installed."""
    installer: str
    """The pypi artefact that is pip: it comes along and is not installed."""


@dataclass(frozen=True, slots=True)
class Image:
    """A container image; images in the same layout share their layers."""

    kind: ClassVar[str] = "image"
    name: str
    version: str
    """{bundle} stands for the bundle's version."""
    layout: str
    """Images with the same word here lie in one OCI layout, the folder of the first of them."""
    reference: str = ""
    """What nodes call it, where that is not the artefact's own name."""
    layers: tuple[str, ...] = ()
    """Debian, pypi or source artefacts, each unpacked into a layer of its own, the base first."""
    compiled_by: str = ""
    """The layer with the Python that compiles the modules in it and in those above it."""
    files: tuple[str, ...] = ()
    """`/PATH/IN/IMAGE=ARTEFACT/FILE`: the last layer."""
    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    user: str = ""


Artefact = Debian | Golang | Wheels | Source | Environment | Image
CLASSES: tuple[type[Artefact], ...] = (Debian, Golang, Wheels, Source, Environment, Image)
KINDS = {wanted.kind: wanted for wanted in CLASSES}


@dataclass(frozen=True, slots=True)
class Nodes:
    """What the nodes of a deployment hold of a bundle, whatever they are for."""

    packages: tuple[str, ...] = ()
    """Debian artefacts: installed."""
    files: tuple[str, ...] = ()
    """`ARTEFACT` or `ARTEFACT/FILE`: kept as files."""
    store: tuple[str, ...] = ()
    """As `files`, but what changes with the source of the store: never part of a node image."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `manifest.in` says; `folder` is where its relative paths begin."""

    folder: Path
    suite: str
    profiles: Mapping[str, tuple[str, ...]]
    nodes: Nodes
    artefacts: tuple[Artefact, ...]

    def named(self, name: str) -> Artefact:
        """Return the artefact of that name."""
        return next(artefact for artefact in self.artefacts if artefact.name == name)

    def shipped(self, profile: str) -> tuple[str, ...]:
        """Return the names of what a bundle of this profile ships. Raises: DeclarationError."""
        try:
            return self.profiles[profile]
        except KeyError as error:
            raise DeclarationError(
                f"there is no profile {profile!r}", hint=f"one of: {', '.join(self.profiles)}"
            ) from error


def read(path: Path) -> Declaration:
    """Read a declaration. Raises: DeclarationError naming what is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{path} is not TOML: {error}") from error
    unknown = table.keys() - {"suite", "profiles", "nodes", "artefact"}
    if unknown or not isinstance(table.get("suite"), str):
        raise DeclarationError(
            f"{path}: expected `suite`, [profiles], [nodes] and [[artefact]], got {sorted(table)}"
        )
    artefacts: dict[str, Artefact] = {}
    above_layout: dict[str, set[str]] = {}
    for row in table.get("artefact", []):
        artefact = _parse(row, path)
        if artefact.name in artefacts:
            raise DeclarationError(f"{path}: {artefact.name} is declared twice")
        above, place = set(artefacts), "it"
        if isinstance(artefact, Image) and artefact.layout in above_layout:
            above, place = above_layout[artefact.layout], f"the images of {artefact.layout}"
        elif isinstance(artefact, Image):
            above_layout[artefact.layout] = above
        for used, key in _uses(artefact):
            if used not in above:
                raise DeclarationError(
                    f"{path}: {artefact.name}.{key} names {used!r}, "
                    f"which is not declared above {place}"
                )
        if isinstance(artefact, Image) and artefact.compiled_by not in ("", *artefact.layers):
            raise DeclarationError(
                f"{path}: {artefact.name}.compiled_by names {artefact.compiled_by!r}, "
                "which is none of its layers"
            )
        artefacts[artefact.name] = artefact
    profiles = _parse_profiles(table.get("profiles", {}), artefacts, path)
    nodes = _parse_nodes(table.get("nodes", {}), artefacts, path)
    return Declaration(path.parent, table["suite"], profiles, nodes, tuple(artefacts.values()))


def file_of(command: str) -> tuple[str, str]:
    """Return (package, file name) of one entry of `commands`."""
    package, _, file = command.partition("=")
    return package, file or package.rsplit("/", 1)[-1]


def source_of(entry: str) -> tuple[str, str, str]:
    """Return (path in the image, artefact, its file) of one entry of an image's `files`."""
    path, _, source = entry.partition("=")
    artefact, _, file = source.partition("/")
    return path, artefact, file


def uses(artefact: Artefact) -> set[str]:
    """Return the names of the artefacts that this one is made from."""
    return {name for name, _ in _uses(artefact)}


def _uses(artefact: Artefact) -> list[tuple[str, str]]:
    """The names of artefacts that this one is made from, each with the key that says so."""
    match artefact:
        case Debian():
            return [(name, "without") for name in artefact.without]
        case Golang():
            return [(artefact.toolchain, "toolchain")]
        case Environment():
            return [(artefact.installer, "installer")] + [(n, "wheels") for n in artefact.wheels]
        case Image():
            from_files = [(source_of(entry)[1], "files") for entry in artefact.files]
            return [(name, "layers") for name in artefact.layers] + from_files
        case Wheels() | Source():
            return []


def _parse_profiles(
    table: object, artefacts: Mapping[str, Artefact], path: Path
) -> dict[str, tuple[str, ...]]:
    profiles: dict[str, tuple[str, ...]] = {}
    if not isinstance(table, dict):
        raise DeclarationError(f"{path}: profiles is no table")
    for profile, names in table.items():
        if not isinstance(names, list):
            raise DeclarationError(f"{path}: profiles.{profile} is no list")
        unknown = [name for name in names if name not in artefacts]
        if unknown:
            raise DeclarationError(
                f"{path}: profiles.{profile} names {unknown[0]!r}, which is not declared"
            )
        profiles[profile] = tuple(names)
    return profiles


def _parse_nodes(table: object, artefacts: Mapping[str, Artefact], path: Path) -> Nodes:
    if not isinstance(table, dict) or table.keys() - {"packages", "files", "store"}:
        raise DeclarationError(f"{path}: nodes has `packages`, `files` and `store`, nothing else")
    for key, entries in table.items():
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise DeclarationError(f"{path}: nodes.{key} is no list of strings")
        for entry in entries:
            artefact = artefacts.get(entry.partition("/")[0])
            if artefact is None or (key == "packages" and not isinstance(artefact, Debian)):
                raise DeclarationError(
                    f"{path}: nodes.{key} names {entry!r}, which is not declared as such"
                )
    return Nodes(**{key: tuple(entries) for key, entries in table.items()})


def _parse(row: Mapping[str, object], path: Path) -> Artefact:
    values = dict(row)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise DeclarationError(f"{path}: {row.get('name')}: kind {kind!r} is none of {list(KINDS)}")
    wanted = KINDS[kind]
    hints = get_type_hints(wanted)
    accepted: dict[str, object] = {}
    for key, value in values.items():
        hint = hints.get(key)
        if hint is None or key == "kind":
            raise DeclarationError(f"{path}: {row.get('name')}: {kind} has no key {key!r}")
        if hint == tuple[str, ...]:
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise DeclarationError(f"{path}: {row.get('name')}.{key} is no list of strings")
            value = tuple(value)
        elif not isinstance(value, hint):
            raise DeclarationError(f"{path}: {row.get('name')}.{key} is no {hint.__name__}")
        accepted[key] = value
    required = {
        field.name for field in dataclasses.fields(wanted) if field.default is dataclasses.MISSING
    }
    missing = required - accepted.keys()
    if missing:
        raise DeclarationError(f"{path}: {row.get('name')} lacks {', '.join(sorted(missing))}")
    return wanted(**accepted)  # type: ignore[arg-type]  # each value was held against its hint
