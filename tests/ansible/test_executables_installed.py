"""Programs are copied when they differ from the bundle's, and replaced by renaming."""

from __future__ import annotations

import os
from pathlib import Path

from tests.ansible.plugins import plugin

executables = plugin("modules", "executables_installed")


def source(folder: Path, content: str = "one") -> Path:
    path = folder / "bundle" / "kubelet"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    path.chmod(0o444)
    return path


def test_an_installed_program_is_executable_and_found_to_be_there(tmp_path: Path):
    program, target = source(tmp_path), tmp_path / "kubelet"
    assert not executables.is_installed(program, target)
    executables.install(program, target)
    assert target.read_text() == "one"
    assert os.access(target, os.X_OK)
    assert executables.is_installed(program, target)


def test_another_time_or_size_or_mode_is_another_program(tmp_path: Path):
    program, target = source(tmp_path), tmp_path / "kubelet"
    executables.install(program, target)
    os.utime(program, ns=(0, 0))
    assert not executables.is_installed(program, target)
    executables.install(program, target)
    target.chmod(0o644)
    assert not executables.is_installed(program, target)


def test_what_runs_keeps_the_file_it_started_from(tmp_path: Path):
    program, target = source(tmp_path), tmp_path / "kubelet"
    executables.install(program, target)
    with target.open() as running:
        program.unlink()
        executables.install(source(tmp_path, "two"), target)
        assert running.read() == "one"
    assert target.read_text() == "two"
