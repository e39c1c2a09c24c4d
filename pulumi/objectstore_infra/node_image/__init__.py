"""The node image: a Debian 13 root file system that every machine of a store starts from.

Built once with mmdebstrap from the mirrors this machine already uses (about a minute) and cached
below `$XDG_CACHE_HOME/objectstore/images/` by the hash of its recipe: same recipe, same alias, no
build. It holds systemd, an SSH server, Python and a unit that applies the first-boot data; the
store's software comes later, with Ansible.
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

from objectstore_infra.apt_sources import Source, mirror_of, read_sources
from objectstore_infra.errors import HostError

SUITE = "trixie"
HOST_SUITES = ("bookworm", "trixie")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "less",
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "systemd",
    "systemd-sysv",
    "util-linux",
)
OPTIONS = (
    "--variant=minbase",
    "--aptopt=Acquire::Languages none",
    "--aptopt=APT::Install-Recommends false",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
)
FILES = Path(__file__).parent / "files"
FINGERPRINT_LENGTH = 12
FORMAT_VERSION = "1"
CACHED_IMAGES_MAX = 3


def cache_folder() -> Path:
    """Return the folder of built images, honouring XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "objectstore" / "images"


def recipe_fingerprint() -> str:
    """Return the hash of everything that decides what the image holds."""
    digest = hashlib.sha256("\n".join((FORMAT_VERSION, SUITE, *PACKAGES, *OPTIONS)).encode())
    for file in sorted(FILES.iterdir()):
        digest.update(f"\n{file.name}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:FINGERPRINT_LENGTH]


def alias() -> str:
    """Return the name under which substrates know the image."""
    return f"objectstore-node-{recipe_fingerprint()}"


def mirrors(sources: list[Source]) -> list[str]:
    """Return mmdebstrap's mirror lines, on the mirrors the machine's own sources name.

    Raises HostError when the machine has no Debian source at all.
    """
    lines = []
    for pocket in ("", "-updates", "-security"):
        found = (mirror_of(sources, f"{suite}{pocket}") for suite in HOST_SUITES)
        source = next((source for source in found if source), None)
        if source:
            lines.append(f"deb [signed-by={KEYRING}] {source.uri} {SUITE}{pocket} main")
        elif not pocket:
            raise HostError(
                f"no apt source of this machine carries {' or '.join(HOST_SUITES)}, so there is "
                "no Debian mirror to build the node image from",
                hint="add a Debian source below /etc/apt, then run again",
            )
    return lines


def ensure_built(say: Callable[[str], None]) -> tuple[Path, Path]:
    """Return (metadata, root file system) of the image, building it when it is not cached."""
    folder = cache_folder() / recipe_fingerprint()
    files = folder / "metadata.tar", folder / "rootfs.tar"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not all(file.exists() for file in files):
            say(f"building the node image (Debian {SUITE}), once, in about a minute")
            scratch = folder.with_suffix(".making")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            _build(scratch)
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


def _build(folder: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise HostError("mmdebstrap is not installed", hint="`make host` as root installs it")
    rootfs = folder / "rootfs.tar"
    hook = f'sh "{FILES}/customize.sh" "$1" "{FILES}"'
    options = [*OPTIONS, f"--include={','.join(PACKAGES)}", f"--customize-hook={hook}"]
    done = subprocess.run(
        ["mmdebstrap", *options, SUITE, rootfs, *mirrors(read_sources())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n    ".join(done.stdout.strip().splitlines()[-12:])
        raise HostError(f"the node image could not be built, mmdebstrap says:\n    {tail}")
    _write_metadata(folder / "metadata.tar", int(rootfs.stat().st_mtime))


def _write_metadata(file: Path, created_s: int) -> None:
    text = (
        f"architecture: {platform.machine()}\ncreation_date: {created_s}\n"
        f"properties:\n  os: debian\n  release: {SUITE}\n  description: object store node\n"
    ).encode()
    entry = tarfile.TarInfo("metadata.yaml")
    entry.size = len(text)
    with tarfile.open(file, "w") as archive:
        archive.addfile(entry, io.BytesIO(text))
