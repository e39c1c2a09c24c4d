"""Debian packages for the guest, with all that they depend on, chosen and verified by apt itself.

apt runs over a root of its own that knows no installed package, so that the answer does not depend
on this machine. It checks every package against the suite's signed lists. Mirrors drop a version
when its successor appears, so versions are not pinned here: what was chosen once is remembered, and
is chosen anew when somebody asks for fresh packages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from objectstore_infra.apt_sources import Source, mirror_of
from objectstore_infra.artefacts.declaration import Debian
from objectstore_infra.artefacts.errors import ArtefactError, run_tool
from objectstore_infra.artefacts.storage import Storage, StoredFile

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
HOST_SUITES = ("bookworm", "trixie")
INDEX = "Packages"
DOWNLOAD_TIMEOUT_S = 1800
OFFLINE_HINT = (
    "what the cache lacks comes from the Debian mirror that this machine's apt uses; the nodes "
    "need none"
)
CONFIGURATION = """\
Dir "{root}";
Dir::State::status "{root}/status";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
"""


class Apt:
    """apt over a private root; `packages` fetches what the guest's suite carries."""

    def __init__(self, root: Path, lines: list[str], architecture: str = "amd64") -> None:
        self._environment = {"APT_CONFIG": str(root / "apt.conf"), "LC_ALL": "C"}
        for folder in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
            (root / folder).mkdir(parents=True)
        (root / "status").touch()
        (root / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        text = CONFIGURATION.format(root=root, architecture=architecture)
        (root / "apt.conf").write_text(text, encoding="utf-8")
        self._archives = root / "var/cache/apt/archives"
        self._run("update", "--quiet")

    def closure(self, packages: tuple[str, ...]) -> list[Path]:
        """Download these packages and all that they depend on."""
        for old in self._archives.glob("*.deb"):
            old.unlink()
        self._run("install", "--yes", "--download-only", *packages)
        return sorted(self._archives.glob("*.deb"))

    def alone(self, packages: tuple[str, ...]) -> list[Path]:
        """Download these packages and nothing else."""
        with tempfile.TemporaryDirectory(dir=self._archives) as name:
            self._run("download", *packages, cwd=Path(name))
            return [path.rename(self._archives / path.name) for path in Path(name).iterdir()]

    def _run(self, action: str, *arguments: str, cwd: Path | None = None) -> None:
        run_tool(
            ["apt-get", action, *arguments],
            cwd=cwd,
            environment=self._environment,
            timeout_s=DOWNLOAD_TIMEOUT_S,
            hint=OFFLINE_HINT,
        )


@contextmanager
def opened(suite: str, pockets: tuple[str, ...], sources: list[Source]) -> Iterator[Apt]:
    """An apt for the suite on the mirrors that this machine's own sources name."""
    with tempfile.TemporaryDirectory(prefix="objectstore-apt-") as root:
        yield Apt(Path(root), source_lines(suite, pockets, sources))


def source_lines(suite: str, pockets: tuple[str, ...], sources: list[Source]) -> list[str]:
    """Return apt's source lines: each pocket from where this machine gets its own."""
    main = next(filter(None, (mirror_of(sources, name) for name in HOST_SUITES)), None)
    if main is None:
        raise ArtefactError(
            "no apt source of this machine carries Debian", hint="add one below /etc/apt"
        )
    lines = []
    for pocket in pockets:
        own = (mirror_of(sources, f"{name}{pocket}") for name in HOST_SUITES)
        source = next(filter(None, own), main)
        lines.append(f"deb [signed-by={KEYRING}] {source.uri} {suite}{pocket} main")
    return lines


def make(item: Debian, apt: Apt, storage: Storage, without: set[str]) -> list[StoredFile]:
    """Fetch the packages of `item` but for those named in `without`.

    Raises: ArtefactError: the suite carries another version than the declared one.
    """
    debs = apt.alone(item.packages) if item.alone else apt.closure(item.packages)
    kept = [deb for deb in debs if package_of(deb.name) not in without]
    found = [version_of(deb.name) for deb in kept if package_of(deb.name) == item.packages[0]]
    if item.version and not any(version.startswith(item.version) for version in found):
        raise ArtefactError(
            f"{item.name}: the suite carries {item.packages[0]} {found}, declared is {item.version}"
        )
    files = [storage.take(deb) for deb in kept]
    return [*files, write_index(files, storage)]


def write_index(files: list[StoredFile], storage: Storage) -> StoredFile:
    """Write the index that makes the packages' folder a repository apt can install from."""
    stanzas = []
    for file in sorted(files):
        control = run_tool(["dpkg-deb", "--field", storage.path(file)], timeout_s=60).rstrip()
        own = f"Filename: ./{file.name}\nSize: {file.size}\nSHA256: {file.sha256}"
        stanzas.append(f"{control}\n{own}\n")
    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch) / INDEX
        index.write_text("\n".join(stanzas), encoding="utf-8")
        return storage.take(index)


def packages_in(files: list[StoredFile]) -> list[StoredFile]:
    """Return the packages among an artefact's files, without their index."""
    return [file for file in files if file.name != INDEX]


def package_of(file: str) -> str:
    """Return the package's name, from its file's name."""
    return file.partition("_")[0]


def version_of(file: str) -> str:
    """Return the package's version without its epoch, from its file's name."""
    return file.split("_")[1].partition("%3a")[2] or file.split("_")[1]
