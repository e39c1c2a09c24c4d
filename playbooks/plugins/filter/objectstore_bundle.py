"""Filters over the listing of a bundle (docs/formats/bundle.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from ansible.errors import AnsibleFilterError

Listing = dict[str, Any]
Row = dict[str, Any]

PACKAGE = ".deb"


class FilterModule:
    """The filters and their names."""

    def filters(self) -> dict[str, Any]:
        return {
            "objectstore_artefact": artefact,
            "objectstore_bundle_files": files,
            "objectstore_bundle_packages": packages,
        }


def artefact(listing: Listing, name: str) -> Row:
    """The row of an artefact: its name, version, kind, source and files."""
    found = [row for row in listing["artefacts"] if row["name"] == name]
    if not found:
        raise AnsibleFilterError(f"the bundle {listing['version']} holds no artefact {name!r}")
    return dict(found[0])


def files(listing: Listing, paths: Sequence[str]) -> list[Row]:
    """The files at these paths, ARTEFACT/FILE, each with path, size and sha256."""
    found = []
    for path in paths:
        name, _, wanted = path.partition("/")
        rows = [row for row in artefact(listing, name)["files"] if row["name"] == wanted]
        if not rows:
            raise AnsibleFilterError(f"the bundle {listing['version']} holds no file {path!r}")
        found.append(_row(path, rows[0]))
    return found


def packages(listing: Listing, names: Sequence[str]) -> list[Row]:
    """The packages of these Debian artefacts: rows as of files, with package and version."""
    found = []
    for name in names:
        for file in artefact(listing, name)["files"]:
            if file["name"].endswith(PACKAGE):
                package, version, _ = file["name"].split("_")
                row = _row(f"{name}/{file['name']}", file)
                found.append(row | {"package": package, "version": unquote(version)})
    return found


def _row(path: str, file: Row) -> Row:
    return {"path": path, "size": file["size"], "sha256": file["sha256"]}
