"""Ansible module: a node holds what a bundle has for it, packages installed and files in a folder.

What a node lacks is found by looking: packages by the version that dpkg says is installed, files by
their SHA-256. A file is read again only when its size or time is no longer what was noted when it
was read last. The action of the same name calls the module twice: to look, and with a tar of what
was missing. What arrives is held against its sum before it is used.

Packages are installed while a policy forbids them to start, stop or restart anything: that is for
the roles, in their order. Archives of packages do not stay on the node, nor do files that are not
wanted. Standard library only, since it runs with the node's own Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.alone import alone
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: node_bundle
short_description: A node holds what a bundle has for it
description:
  - Installs packages of a bundle and keeps files of it in a folder, without any network.
options:
  bundle:
    description: The bundle's folder on the operator's side; the action reads it.
    type: path
    required: true
  folder:
    description: The folder on the node that holds the files, and nothing else.
    type: path
    required: true
  files:
    description: What the folder holds - path, size and sha256 of each file.
    type: list
    elements: dict
    required: true
  packages:
    description: What is installed - package, version, path, size and sha256 of each.
    type: list
    elements: dict
    required: true
  exact:
    description: Whether files of artefacts that O(files) names none of are removed.
    type: bool
    default: true
  archive:
    description: A tar of what was missing, on the node; without it the node is only looked at.
    type: path
"""

NOTED = ".noted.json"
INCOMING = ".incoming"
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\nexit 101\n"
INSTALL_TIMEOUT_S = 900
APT_OPTIONS = (
    "Dir::Etc::SourceList=/dev/null",
    "Dir::Etc::SourceParts=/dev/null",
    "APT::Sandbox::User=root",
    "APT::Install-Recommends=false",
    "Dpkg::Options::=--force-confold",
    "DPkg::Lock::Timeout=300",
)

Row = dict[str, Any]
Noted = dict[str, list[Any]]
"""Path → size, time in ns and SHA-256 of a file that was read."""


class RefusedError(Exception):
    """The node cannot be brought to what the bundle says."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "bundle": {"type": "path", "required": True},
            "folder": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "dict", "required": True},
            "packages": {"type": "list", "elements": "dict", "required": True},
            "exact": {"type": "bool", "default": True},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        # Of a run that was cut off, this may still be at work.
        with alone("bundle", INSTALL_TIMEOUT_S):
            result = brought(module.params, module.check_mode)
    except (OSError, tarfile.TarError, subprocess.SubprocessError, RefusedError) as error:
        module.fail_json(msg=f"the bundle's content cannot be brought here: {error}")
    module.exit_json(**result)


def brought(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look what is missing and, with an archive of it, take that in."""
    folder, archive = Path(params["folder"]), params["archive"]
    files, packages = params["files"], params["packages"]
    new_packages = not_installed(packages, installed())
    new_files, noted = differing(folder, files)
    unwanted = others(folder, files, exact=params["exact"])
    if archive and not check_mode:
        take_in(folder, Path(archive), new_files, new_packages)
        for path in unwanted:
            (folder / path).unlink()
        drop_empty(folder)
        # What arrived was held against its sum: it is not read once more.
        for row in new_files:
            noted[row["path"]] = [*stamp_of(folder / row["path"]), row["sha256"]]
    if folder.is_dir() and not check_mode and noted != read_noted(folder):
        (folder / NOTED).write_text(json.dumps(noted), encoding="utf-8")
    return {
        "changed": bool(new_files or new_packages or unwanted),
        "missing": [row["path"] for row in (*new_packages, *new_files)],
        "diff": difference(new_files, new_packages, unwanted),
    }


def installed() -> dict[str, str]:
    """Package → version, of those that are installed and configured."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = (line.split() for line in done.stdout.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def not_installed(packages: list[Row], versions: dict[str, str]) -> list[Row]:
    """The packages that are missing here, or of another version."""
    return [row for row in packages if versions.get(row["package"]) != row["version"]]


def differing(folder: Path, files: list[Row]) -> tuple[list[Row], Noted]:
    """The files that are missing or have another content, and what is to be noted of the others."""
    noted = read_noted(folder)
    seen = {}
    missing = []
    for row in files:
        path = folder / row["path"]
        if not path.is_file():
            missing.append(row)
            continue
        stamp = stamp_of(path)
        known = noted.get(row["path"], [])
        sha256 = known[2] if known[:2] == stamp else sha256_of(path)
        seen[row["path"]] = [*stamp, sha256]
        if sha256 != row["sha256"]:
            missing.append(row)
    return missing, seen


def stamp_of(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def read_noted(folder: Path) -> Noted:
    try:
        noted: Noted = json.loads((folder / NOTED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # everything is read again
    return noted


def others(folder: Path, files: list[Row], *, exact: bool) -> list[str]:
    """What lies in the folder and is not wanted; unless `exact`, only of artefacts with files."""
    wanted = {NOTED, *(row["path"] for row in files)}
    artefacts = {row["path"].partition("/")[0] for row in files}
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(
        str(path)
        for path in found
        if str(path) not in wanted and (exact or path.parts[0] in artefacts)
    )


def take_in(folder: Path, archive: Path, files: list[Row], packages: list[Row]) -> None:
    """Unpack what has come, hold it against its sums, install it."""
    incoming = folder / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:") as tar:
            for row in (*files, *packages):
                unpack(tar, row, incoming / row["path"])
        if packages:
            install([incoming / row["path"] for row in packages])
        for row in files:
            target = folder / row["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            (incoming / row["path"]).replace(target)
    finally:
        shutil.rmtree(incoming)


def unpack(tar: tarfile.TarFile, row: Row, target: Path) -> None:
    """Unpack one file and hold it against its sum. Raises: RefusedError."""
    try:
        content = tar.extractfile(row["path"])
    except KeyError:
        content = None
    if content is None:
        raise RefusedError(f"{row['path']} did not arrive")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)
    if sha256_of(target) != row["sha256"]:
        raise RefusedError(f"{row['path']} is not the file of the bundle's listing (SHA-256)")


def install(packages: list[Path]) -> None:
    """Let apt install these files, daemons untouched. What a run that was cut off left unpacked is
    configured first: apt goes no further while there is such a package.
    """
    options = [argument for option in APT_OPTIONS for argument in ("-o", option)]
    # The folder of man pages may be missing, and packages with alternatives fail without it.
    Path("/usr/share/man/man1").mkdir(parents=True, exist_ok=True)
    with services_untouched():
        quietly("dpkg", "--force-confold", "--configure", "--pending")
        quietly(
            "apt-get", *options, "--yes", "--quiet", "--allow-downgrades", "install",
            *map(str, packages),
        )  # fmt: skip


def quietly(*argv: str) -> None:
    """Run a command that asks nothing. Raises: RefusedError: it failed."""
    done = subprocess.run(
        argv,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_TIMEOUT_S,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise RefusedError(f"{argv[0]} ended with {done.returncode}:\n{tail}")


@contextmanager
def services_untouched() -> Iterator[None]:
    """While this lasts, packages start, stop and restart nothing (invoke-rc.d's policy).

    A policy that a run left behind which was cut off goes, too.
    """
    before = POLICY.read_bytes() if POLICY.exists() else None
    if before == POLICY_TEXT.encode("ascii"):
        before = None
    POLICY.write_text(POLICY_TEXT, encoding="ascii")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            POLICY.unlink()
        else:
            POLICY.write_bytes(before)


def drop_empty(folder: Path) -> None:
    """Remove the folders in which nothing is left."""
    folders = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for path in folders:
        if not any(path.iterdir()):
            path.rmdir()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def difference(files: list[Row], packages: list[Row], unwanted: list[str]) -> dict[str, str]:
    """What would change, as Ansible's diff."""
    before = [f"file {path}" for path in unwanted]
    after = [f"package {row['package']} {row['version']}" for row in packages]
    after += [f"file {row['path']} {row['sha256'][:12]}" for row in files]
    return {
        kind: "".join(f"{line}\n" for line in lines)
        for kind, lines in (("before", before), ("after", after))
    }


if __name__ == "__main__":
    main()
