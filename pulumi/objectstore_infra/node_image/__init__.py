"""The node image: a Debian 13 root file system that every machine of a store starts from.

Made of a bundle alone: mmdebstrap, in a network namespace of its own where there is no network,
installs the packages that nodes hold from the bundle's folders, which are apt repositories; the
files that nodes hold are added to its tar. What changes with the source of the store stays out:
Ansible brings it, as it brings whatever a machine made from an older image lacks.

An image is named by the hash of all that decides its content, so that bundles that differ in the
store alone share one. Images are cached below `$XDG_CACHE_HOME/objectstore/images/`.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from objectstore_infra import bundle
from objectstore_infra.artefacts import listing
from objectstore_infra.artefacts.debian import INDEX, package_of
from objectstore_infra.artefacts.listing import FileRow, Listing
from objectstore_infra.errors import HostError

OPTIONS = (
    "--variant=apt",
    "--aptopt=Acquire::Languages none",
    "--aptopt=APT::Install-Recommends false",
    "--aptopt=APT::Sandbox::User root",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    # Packages with alternatives fail to configure where the folder of man pages is missing.
    '--setup-hook=mkdir -p "$1/usr/share/man/man1"',
)
FILES = Path(__file__).parent / "files"
NODE_BUNDLE_DIR = "var/lib/objectstore/bundle"
FINGERPRINT_LENGTH = 12
FORMAT_VERSION = "2"
CACHED_IMAGES_MAX = 2


def cache_folder() -> Path:
    """Return the folder of built images, honouring XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "objectstore" / "images"


def alias(version: str) -> str:
    """Return the name under which substrates know the image of the bundle of that version.

    Raises: ListingError: there is no such bundle; HostError: it holds nothing for nodes.
    """
    return f"objectstore-node-{fingerprint(read_listing(bundle.bundles_dir() / version))}"


def read_listing(folder: Path) -> Listing:
    """Return the listing of a bundle that a node image can be made of.

    Raises: ListingError: there is no bundle, or it was changed; HostError: it is not for nodes.
    """
    listed = listing.read(folder).listing
    if not listed.get("nodes", {}).get("packages"):
        raise HostError(
            f"the bundle {folder.name} holds no packages for nodes: no node image is made of it",
            hint="an earlier release built it: deploy with the release that it belongs to",
        )
    return listed


def fingerprint(listed: Listing) -> str:
    """Return the hash of everything that decides what the image holds."""
    digest = hashlib.sha256("\n".join((FORMAT_VERSION, listed["suite"], *OPTIONS)).encode())
    for file in sorted(FILES.iterdir()):
        digest.update(f"\n{file.name}\n".encode())
        digest.update(file.read_bytes())
    for path, row in (*packages_of(listed), *files_of(listed)):
        digest.update(f"\n{path} {row['sha256']}".encode())
    return digest.hexdigest()[:FINGERPRINT_LENGTH]


def packages_of(listed: Listing) -> list[tuple[str, FileRow]]:
    """Return the packages that nodes hold, as (path in the bundle, row)."""
    wanted = listed["nodes"]["packages"]
    rows = [
        (f"{row['name']}/{file['name']}", file)
        for row in listed["artefacts"]
        for file in row["files"]
        if row["name"] in wanted and file["name"] != INDEX
    ]
    return sorted(rows, key=lambda entry: entry[0])


def files_of(listed: Listing) -> list[tuple[str, FileRow]]:
    """Return the files that the image holds below `NODE_BUNDLE_DIR`, as (path, row).

    Raises: HostError: the bundle lacks one that it names.
    """
    rows = {
        f"{row['name']}/{file['name']}": file
        for row in listed["artefacts"]
        for file in row["files"]
    }
    wanted = sorted(listed["nodes"]["files"])
    lacking = [path for path in wanted if path not in rows]
    if lacking:
        raise HostError(
            f"the bundle {listed['version']} names {lacking[0]} for nodes and does not hold it",
            hint=f"build it anew: objectstore bundle build --version {listed['version']} --replace",
        )
    return [(path, rows[path]) for path in wanted]


def ensure_built(version: str, say: Callable[[str], None]) -> tuple[Path, Path]:
    """Return (metadata, root file system) of the image, building it when it is not cached.

    Raises: ListingError: the bundle is not whole or not trusted; HostError: mmdebstrap.
    """
    source = bundle.bundles_dir() / version
    listed = read_listing(source)
    folder = cache_folder() / fingerprint(listed)
    files = folder / "metadata.tar", folder / "rootfs.tar"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not all(file.exists() for file in files):
            say(f"making the node image of bundle {version}, once, in about two minutes")
            bundle.verify(source)
            scratch = folder.with_suffix(".making")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            _build(scratch, source, listed)
            scratch.replace(folder)
            _drop_old(folder)
    return files


def _drop_old(newest: Path) -> None:
    """Keep the last few images: other clones of this repository may still use them."""
    built = [path for path in newest.parent.iterdir() if path.is_dir() and not path.suffix]
    for path in sorted(built, key=lambda path: path.stat().st_mtime)[:-CACHED_IMAGES_MAX]:
        shutil.rmtree(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(folder: Path, source: Path, listed: Listing) -> None:
    if not shutil.which("mmdebstrap"):
        raise HostError("mmdebstrap is not installed", hint="`make host` as root installs it")
    rootfs = folder / "rootfs.tar"
    packages = ",".join(package_of(row["name"]) for _, row in packages_of(listed))
    hook = f'sh "{FILES}/customize.sh" "$1" "{FILES}"'
    # The bundle was verified just now, so that apt need not trust anybody else.
    repositories = [
        f"deb [trusted=yes] copy:{source / name} ./" for name in listed["nodes"]["packages"]
    ]
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "mmdebstrap",
            *OPTIONS,
            f"--include={packages}",
            f"--customize-hook={hook}",
            listed["suite"],
            rootfs,
            *repositories,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n    ".join(done.stdout.strip().splitlines()[-12:])
        raise HostError(f"the node image could not be built, mmdebstrap says:\n    {tail}")
    _add_files(rootfs, source, listed)
    _write_metadata(folder / "metadata.tar", listed["suite"], int(rootfs.stat().st_mtime))


def _add_files(rootfs: Path, source: Path, listed: Listing) -> None:
    """Append the bundle's files to the tar: root's, and readable by all."""
    with tarfile.open(rootfs, "a", format=tarfile.PAX_FORMAT) as archive:
        folders: set[str] = set()
        for path, row in files_of(listed):
            target = f"./{NODE_BUNDLE_DIR}/{path}"
            above = [str(folder) for folder in Path(target).parents][-2::-1]
            for folder in (f"./{name}" for name in above if name not in folders):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            folders.update(above)
            entry = tarfile.TarInfo(target)
            entry.size, entry.mode = row["size"], 0o644
            with (source / path).open("rb") as content:
                archive.addfile(entry, content)


def _write_metadata(file: Path, suite: str, created_s: int) -> None:
    text = (
        f"architecture: {platform.machine()}\ncreation_date: {created_s}\n"
        f"properties:\n  os: debian\n  release: {suite}\n  description: object store node\n"
    ).encode()
    entry = tarfile.TarInfo("metadata.yaml")
    entry.size = len(text)
    with tarfile.open(file, "w") as archive:
        archive.addfile(entry, io.BytesIO(text))
