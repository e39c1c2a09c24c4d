"""Real S3 clients for the lab, and how to run them.

boto3, the aws cli and s3cmd come with the test requirements. MinIO's client, rclone and restic are
Debian packages: one on the PATH is used, else the package of Debian 13 is fetched with apt from the
mirror this machine already uses (through a source list and package lists of its own, so that
nothing is installed and the machine's configuration stays as it is) and unpacked into the cache.
Debian 12 has no minio-client; the binaries of Debian 13 need nothing that Debian 12 lacks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from objectstore_infra.apt_sources import mirror_of, read_sources

SUITE = "trixie"
HOST_SUITES = ("trixie", "bookworm")
COMMAND_LIMIT_S = 120
CERTIFICATE_SETTINGS = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass
class Program:
    """A client's command with the arguments and environment that every call of it gets."""

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it; the caller looks at the exit code."""
        own = ("AWS_", "RCLONE_", "RESTIC_", "MC_")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(own) and name not in CERTIFICATE_SETTINGS
        }
        return subprocess.run(
            [*self.argv, *arguments],
            env=inherited | self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        """Run it; returns what it printed, fails the test with all it said if it failed."""
        done = self.attempt(*arguments)
        said = f"{' '.join((*self.argv, *arguments))}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, said
        return done.stdout


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "objectstore" / "clients"


def from_requirements(name: str) -> str:
    """A program that the test requirements installed."""
    return str(Path(sys.executable).parent / name)


def from_debian(package: str) -> str:
    """The program of that Debian package; the test is skipped where it cannot be had."""
    found = shutil.which(package)
    if found:
        return found
    program = cache_folder() / package / "usr" / "bin" / package
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            fetch(package)
    return str(program)


def fetch(package: str) -> None:
    """Download and unpack a package of Debian 13 into the cache."""
    sources = read_sources()
    mirror = next((m for suite in HOST_SUITES if (m := mirror_of(sources, suite))), None)
    if shutil.which("apt-get") is None or mirror is None:
        pytest.skip(f"{package} is not on the PATH and this machine has no Debian mirror to ask")
    apt = cache_folder() / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    stanza = ["Types: deb", f"URIs: {mirror.uri}", f"Suites: {SUITE}", "Components: main"]
    if mirror.signed_by:
        stanza.append(f"Signed-By: {mirror.signed_by}")
    source_list = apt / f"{SUITE}.sources"
    source_list.write_text("\n".join(stanza) + "\n", encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": source_list,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt,
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    options = [f"--option={name}={value}" for name, value in settings.items()]
    if os.geteuid() == 0:
        options.append("--option=APT::Sandbox::User=root")
    if not any((apt / "lists").glob("*_Packages*")):
        Program(["apt-get", *options], folder=apt)("update", "-q")
    Program(["apt-get", *options], folder=apt)("download", "-q", package)
    archive = next(apt.glob(f"{package}_*.deb"))
    partial = cache_folder() / f"{package}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    Program(["dpkg-deb"])("--extract", str(archive), str(partial))
    partial.rename(cache_folder() / package)
    archive.unlink()
