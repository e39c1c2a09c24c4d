"""Where the binaries of the peers come from: a cache folder, the PATH, or their registry.

The folder is `--peers DIR`, OBJECTSTORE_BENCH_PEERS, or objectstore/peers below the user's cache;
a binary in it lies in bin/ (as `go install` leaves it) or in NAME/bin/ (as `cargo install` does).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

INSTALL_TIMEOUT_S = 3 * 3600


@dataclass(frozen=True)
class Peer:
    """A program of others. `about` is what installing it takes on two processors."""

    name: str
    program: str
    version: str
    tool: str
    package: str
    about: str

    def command(self, folder: Path) -> list[str]:
        """How its registry installs the pinned version."""
        if self.tool == "go":
            return ["go", "install", f"{self.package}@{self.version}"]
        root = str(folder / self.program)
        return [
            "cargo",
            "install",
            self.package,
            "--version",
            self.version,
            "--locked",
            *("--root", root),
        ]


MINIO = Peer(
    "minio",
    "minio",
    "v0.0.0-20260212201848-7aac2a2c5b7c",
    "go",
    "github.com/minio/minio",
    "3 to 7 minutes",
)
VERSITY = Peer(
    "versity",
    "versitygw",
    "v1.8.0",
    "go",
    "github.com/versity/versitygw/cmd/versitygw",
    "2 to 4 minutes",
)
GARAGE = Peer("garage", "garage", "2.5.0", "cargo", "garage", "25 to 50 minutes")


def default_folder() -> Path:
    """The cache of this user."""
    if given := os.environ.get("OBJECTSTORE_BENCH_PEERS"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "objectstore" / "peers"


def find(peer: Peer, folder: Path) -> str | None:
    """Its binary, if there is one already."""
    for place in (folder / "bin", folder / peer.program / "bin"):
        if found := shutil.which(peer.program, path=str(place)):
            return found
    return shutil.which(peer.program)


def obtain(peer: Peer, folder: Path, *, install: bool) -> tuple[str | None, str]:
    """Its binary, installed where it may and can be; else None and the reason."""
    if found := find(peer, folder):
        return found, ""
    missing = f"not in {folder} nor on the PATH, and"
    if not install:
        return None, f"{missing} installing is switched off"
    if not shutil.which(peer.tool):
        return None, f"{missing} `{peer.tool}`, which installs it, is not there"
    command = peer.command(folder)
    print(f"{peer.name}: installing it once: {' '.join(command)}; takes {peer.about}", flush=True)
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(folder / "bin")}
    log = folder / f"{peer.name}-install.log"
    with log.open("wb") as out:
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=INSTALL_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, f"installing it took more than {INSTALL_TIMEOUT_S // 3600} hours"
    if done.returncode:
        return None, f"installing it failed, see {log}"
    print(f"{peer.name}: installed after {time.monotonic() - began:.0f} s", flush=True)
    return find(peer, folder), f"the installation left no {peer.program}, see {log}"


def version_of(peer: Peer, binary: str) -> str:
    """The version a binary was made from: Go writes the module's into it, Garage says its own."""
    if peer.tool == "cargo":
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"v?(\d+\.\d+\.\d+)", shown.stdout)
        return found[1] if found else "unknown"
    return go_module_version(Path(binary).read_bytes())


def go_module_version(content: bytes) -> str:
    """The version of the main module in a Go binary's build information."""
    found = re.search(rb"\nmod\t\S+\t(v[\w.+-]+)", content)
    return found[1].decode() if found else "unknown"
