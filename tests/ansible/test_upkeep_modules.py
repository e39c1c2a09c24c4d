"""What runs old programs is found, and what nothing runs any more."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.ansible.plugins import plugin

images = plugin("modules", "images_pruned")
units = plugin("modules", "units_renewed")
versions = plugin("modules", "versions_pruned")
# As the module knows it: what modules share is not importable by a name of this repository.
replaced = units.runs_replaced.__globals__["replaced"]


def test_a_process_whose_program_was_replaced_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(units.runs_replaced.__globals__, "FOLDERS", (f"{tmp_path}/",))
    program = tmp_path / "sleep"
    shutil.copy2("/usr/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    try:
        assert replaced(process.pid) == []
        shutil.copy2("/usr/bin/sleep", tmp_path / "incoming")
        (tmp_path / "incoming").replace(program)
        assert replaced(process.pid) == [str(program)]
    finally:
        process.kill()
        process.wait()
    assert replaced(process.pid) == []


def test_a_unit_that_started_before_a_file_it_reads_changed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also where the run that changed the file was cut off before it restarted the unit."""
    started_before = units.started_before
    now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    numbers = {"MainPID": 1, "ExecMainStartTimestampMonotonic": now_us}
    monkeypatch.setitem(started_before.__globals__, "shown", lambda _unit, name: numbers[name])
    link = tmp_path / "current"
    link.symlink_to("1.0")
    link_of = [link, tmp_path / "absent"]
    os.utime(link, (0, 0), follow_symlinks=False)
    assert not started_before("envoy.service", link_of)
    link.unlink()
    link.symlink_to(tmp_path)
    os.utime(link, (time.time() + 1,) * 2, follow_symlinks=False)
    assert started_before("envoy.service", link_of)
    numbers["MainPID"] = 0
    assert not started_before("envoy.service", link_of)


def test_images_that_nothing_runs_go_and_those_of_kept_versions_stay():
    listed = [
        "CONTAINER IMAGE RUNTIME",
        "abc objectstore.internal/objectstore:0.1.0_src.a io.containerd.runc.v2",
    ]
    registry = "objectstore.internal/"
    names = [
        "objectstore.internal/objectstore:0.1.0_src.a",
        "objectstore.internal/objectstore:0.1.0_src.b",
        "objectstore.internal/objectstore:0.1.0_src.c",
        "objectstore.internal/pause:3.10.1",
        "sha256:0123",
        "other.example/objectstore:1",
    ]
    gone = images.superseded(names, images.used_images(listed), ["0.1.0+src.b"], registry)
    assert gone == ["objectstore.internal/objectstore:0.1.0_src.c"]


def test_the_current_environment_and_the_one_before_it_stay(tmp_path: Path):
    for age, name in enumerate(("1.2", "1.1", "1.3", "1.0")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert versions.superseded(tmp_path) == []
    (tmp_path / "current").symlink_to("1.0")
    assert [path.name for path in versions.superseded(tmp_path)] == ["1.3", "1.1"]
