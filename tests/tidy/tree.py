"""The tracked files of the repository, read and parsed once, for the tidy tests."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class SourceFile:
    """One tracked text file: its path from the root with `/`, and its text."""

    path: str
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def at(self, line: int, finding: str) -> str:
        return f"{self.path}:{line}: {finding}"


@dataclass(frozen=True)
class Module:
    """A tracked Python file with its syntax tree."""

    source: SourceFile
    tree: ast.Module

    @property
    def path(self) -> str:
        return self.source.path

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))


@cache
def tracked_paths() -> tuple[str, ...]:
    """What git tracks and the work tree still holds."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    names = (name for name in listed.stdout.split("\0") if name)
    return tuple(name for name in names if (ROOT / name).is_file())


@cache
def text_files() -> tuple[SourceFile, ...]:
    """Every tracked file that is UTF-8 text."""
    found = []
    for path in tracked_paths():
        content = (ROOT / path).read_bytes()
        if b"\0" in content:
            continue
        found.append(SourceFile(path, content.decode()))
    return tuple(found)


@cache
def modules() -> tuple[Module, ...]:
    """Every tracked Python file, with or without the suffix."""
    return tuple(
        Module(source, ast.parse(source.text, source.path))
        for source in text_files()
        if source.path.endswith(".py") or is_python_script(source)
    )


def is_python_script(source: SourceFile) -> bool:
    first = source.text.partition("\n")[0]
    return first.startswith("#!") and "python" in first


def report(findings: list[str]) -> str:
    return "\n" + "\n".join(findings)
