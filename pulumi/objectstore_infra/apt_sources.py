"""Which Debian mirrors this machine uses, read from its apt configuration in either format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

APT_FOLDER = Path("/etc/apt")


@dataclass(frozen=True, slots=True)
class Source:
    """One suite on one mirror."""

    uri: str
    suite: str
    signed_by: str
    """Keyring path, or empty: apt's default trust."""


def read_sources(folder: Path = APT_FOLDER) -> list[Source]:
    """Return all active binary sources of this machine."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    found = [
        source
        for file in files
        if file.is_file()
        for source in parse_one_line(file.read_text(encoding="utf-8"))
    ]
    for file in sorted((folder / "sources.list.d").glob("*.sources")):
        found += parse_deb822(file.read_text(encoding="utf-8"))
    return found


def parse_deb822(text: str) -> list[Source]:
    """Parse the stanza format of `*.sources` files."""
    found = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        fields = {
            name.lower(): value
            for name, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*?)[ \t]*$", stanza, re.MULTILINE)
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes") == "no":
            continue
        signed_by = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            found += [Source(uri, suite, signed_by) for suite in fields.get("suites", "").split()]
    return found


def parse_one_line(text: str) -> list[Source]:
    """Parse the `deb [options] URI SUITE COMPONENT…` format."""
    found = []
    pattern = r"^deb[ \t]+(?:\[([^]]*)\][ \t]+)?(\S+)[ \t]+(\S+)[ \t]"
    for options, uri, suite in re.findall(pattern, text, re.MULTILINE):
        signed_by = re.search(r"signed-by=(\S+)", options)
        found.append(Source(uri, suite, signed_by[1] if signed_by else ""))
    return found


def mirror_of(sources: list[Source], suite: str) -> Source | None:
    """Return the first source of the suite."""
    return next((source for source in sources if source.suite.rstrip("/") == suite), None)
