"""`objectstore stack …` from outside: a real program, a real provider, real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra.engine.conftest import Sandbox

SECRET = "hunter2-hunter2"
# Each run starts a program and a provider, which takes seconds on a busy machine.
pytestmark = pytest.mark.timeout(300)


def _wait_for(sandbox: Sandbox, thing: str) -> None:
    for _ in range(300):
        if (sandbox.world / f"{thing}.json").exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{thing} never came")


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"{text!r} was never said")


def test_a_stack_lives_from_preview_to_destroy(sandbox: Sandbox) -> None:
    a = {"key": "a", "token": SECRET, "log": "making"}
    sandbox.program(a, {"key": "b", "uses": ["a"], "box": "box"}, {"key": "c", "after": ["b"]})

    preview = sandbox.run("preview")
    assert "preview done: 6 create" in preview
    assert not sandbox.things()

    up = sandbox.run("up")
    assert "up done: 6 created" in up
    assert up.index("create    tiny:index:Thing a") < up.index("a | making [secret]")
    assert up.index("a | making") < up.index("created   tiny:index:Thing a")
    assert set(sandbox.things()) == {"a-x", "b-x", "c-x"}
    assert "up done: 6 unchanged" in sandbox.run("up")

    sandbox.program(
        {**a, "size": 2}, {"key": "b", "uses": ["a"], "box": "box", "zone": "y"}, {"key": "d"}
    )
    edited = sandbox.run("preview")
    assert "~ size: 1 => 2" in edited
    assert '~ zone: "x" => "y"  (forces a replacement)' in edited
    assert "2 create" not in edited
    done = sandbox.run("up")
    assert "3 unchanged, 1 created, 1 updated, 1 replaced, 2 deleted" in done
    assert set(sandbox.things()) == {"a-x", "b-y", "d-x"}
    sandbox.check_agrees()

    (sandbox.world / "d-x.json").unlink()
    drifted = json.loads((sandbox.world / "a-x.json").read_text())
    (sandbox.world / "a-x.json").write_text(json.dumps({**drifted, "size": 7}))
    refreshed = sandbox.run("refresh")
    assert "refresh   tiny:index:Thing d (is gone)" in refreshed
    assert "~ size: 2 => 7" in refreshed
    assert "1 created, 1 updated" in sandbox.run("up")
    sandbox.check_agrees()

    assert "destroy done" in sandbox.run("destroy")
    assert not sandbox.things()
    assert not sandbox.resources()
    everything = preview + up + edited + done + refreshed
    assert SECRET not in everything


def test_secrets_are_nowhere_in_plain_text(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a", "token": SECRET, "log": "with"})
    sandbox.run("config", "set", "word", "--secret", "sesame-sesame")
    sandbox.run("config", "set", "plain", "seen")
    settings = (sandbox.project / "Pulumi.dev.yaml").read_text()
    assert "encryptionsalt: v1:" in settings
    assert "sesame" not in settings
    assert sandbox.run("config", "get", "word") == "sesame-sesame\n"

    shown = sandbox.run("up") + sandbox.run("output") + sandbox.run("export")
    assert sandbox.state_file.stat().st_mode & 0o777 == 0o600
    for secret in (SECRET, "sesame-sesame"):
        assert secret not in shown
        assert secret not in sandbox.state_file.read_text()
    assert json.loads(sandbox.run("output", "--json"))["word"] == "[secret]"
    assert json.loads(sandbox.run("output", "--json", "--show-secrets"))["word"] == "sesame-sesame"
    assert sandbox.run("output", "a") == "world/a-x\n"


def test_without_a_secret_setting_the_stack_file_is_left_alone(sandbox: Sandbox) -> None:
    settings = sandbox.project / "Pulumi.dev.yaml"
    settings.write_text("# a comment\nconfig:\n  tinyproj:one: '1' # kept\n")
    sandbox.program({"key": "a", "token": SECRET})
    sandbox.run("up")
    assert "encryptionsalt" not in settings.read_text()
    sandbox.run("config", "set", "two", "2")
    assert settings.read_text().startswith("# a comment\nconfig:\n  tinyproj:one: '1' # kept\n")
    assert sandbox.run("config", "get", "tinyproj:two") == "2\n"


def test_a_passphrase_is_made_once_and_said_once(sandbox: Sandbox) -> None:
    del sandbox.env["PULUMI_CONFIG_PASSPHRASE"]
    sandbox.program({"key": "a", "token": SECRET})
    kept = sandbox.state_dir / "passphrase"
    assert str(kept) in sandbox.run("up")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert str(kept) not in sandbox.run("up")
    refused = sandbox.run("up", code=1, PULUMI_CONFIG_PASSPHRASE="another")
    assert "the passphrase does not open this stack's secrets" in refused


def test_a_failure_stops_what_follows_and_the_next_up_goes_on(sandbox: Sandbox) -> None:
    following = [{"key": "c", "after": ["b"]}]
    sandbox.program({"key": "a"}, {"key": "b", "fail": "create", "after": ["a"]}, *following)
    failed = sandbox.run("up", code=1)
    assert failed.count("error:") == 1, failed
    assert "error: tiny:index:Thing b: no room for b" in failed
    assert "Traceback" not in failed
    assert set(sandbox.things()) == {"a-x"}

    sandbox.program({"key": "a"}, {"key": "b", "after": ["a"]}, *following)
    assert "2 created" in sandbox.run("up")
    sandbox.check_agrees()


def test_invalid_inputs_are_refused_before_anything_is_touched(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a", "size": -1})
    assert "error: tiny:index:Thing a: size: must be above 0, not -1" in sandbox.run(
        "preview", code=1
    )
    assert not sandbox.things()


def test_a_program_that_raises_deletes_nothing(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a"}, {"key": "b"})
    sandbox.run("up")
    sandbox.program({"key": "a"}, {"key": "c", "after": ["nowhere"]})
    failed = sandbox.run("up", code=1)
    assert "KeyError: 'nowhere'" in failed
    assert set(sandbox.things()) == {"a-x", "b-x"}


def test_protected_resources_are_not_deleted(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a", "protect": True})
    sandbox.run("up")
    assert "protected, so not deleted: a" in sandbox.run("destroy", code=1)
    assert set(sandbox.things()) == {"a-x"}


def test_an_export_imports_into_another_stack_folder(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.program({"key": "a", "token": SECRET}, {"key": "b", "uses": ["a"], "box": "box"})
    sandbox.run("up")
    exported = tmp_path / "export.json"
    sandbox.run("export", "--file", str(exported))
    document = json.loads(exported.read_text())
    assert document["version"] == 3
    assert set(document["deployment"]["secrets_providers"]) == {"type", "state"}
    rows = document["deployment"]["resources"]
    assert rows[0]["urn"] == "urn:pulumi:dev::tinyproj::pulumi:pulumi:Stack::tinyproj-dev"
    thing = next(row for row in rows if row["urn"].endswith("Thing::b"))
    assert thing["urn"] == "urn:pulumi:dev::tinyproj::tiny:index:Box$tiny:index:Thing::b"
    assert thing["provider"].rpartition("::")[0].endswith("pulumi:providers:tiny::default_0_0_1")
    assert thing["inputs"]["size"] == 1

    sandbox.env["OBJECTSTORE_STATE_DIR"] = str(tmp_path / "elsewhere")
    assert "5 resources imported" in sandbox.run("import", "--file", str(exported))
    assert "up done: 5 unchanged" in sandbox.run("up")
    plain = json.loads(sandbox.run("export", "--show-secrets"))
    assert json.dumps(SECRET) in json.dumps(plain).replace('\\"', '"')
    refused = sandbox.run("import", "--stack", "other", "--file", str(exported), code=1)
    assert "is not of stack 'other'" in refused


def test_one_operation_at_a_time_and_cancel_stops_it(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a"}, {"key": "b", "after": ["a"]})
    hold = sandbox.project / "hold"
    hold.touch()
    first = sandbox.start("up", TINY_HOLD=str(hold))
    _wait_for(sandbox, "a-x")
    refused = sandbox.run("up", code=1)
    assert "another operation holds this stack: up since" in refused
    assert f"process {first.pid}" in refused
    assert str(first.pid) in sandbox.run("cancel")
    assert "stopping after the steps under way" in _read_until(first, "stopping")
    hold.unlink()
    output, _ = first.communicate(timeout=30)
    assert first.returncode == 130, output
    assert set(sandbox.things()) == {"a-x"}
    sandbox.check_agrees()
    assert "no operation is under way" in sandbox.run("cancel")
    assert "1 created" in sandbox.run("up")


def test_a_second_interrupt_ends_at_once_and_up_resumes(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a"})
    hold = sandbox.project / "hold"
    hold.touch()
    process = sandbox.start("up", TINY_HOLD=str(hold))
    _wait_for(sandbox, "a-x")
    process.send_signal(signal.SIGINT)
    _read_until(process, "stopping")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130
    assert "half" in sandbox.things()["a-x"]
    hold.unlink()
    resumed = sandbox.run("up")
    assert "(resumes an interrupted create)" in resumed
    sandbox.check_agrees()


def test_events_are_one_json_object_a_line(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a", "token": SECRET, "log": "hello"})
    events = [json.loads(line) for line in sandbox.run("up", "--json").splitlines()]
    assert [e["event"] for e in events if e.get("name") == "a"] == ["begin", "end"]
    assert "hello [secret]" in [e.get("message") for e in events]
    assert events[-1]["event"] == "summary"
    assert events[-1]["counts"] == {"create": 3}


def test_unsupported_features_are_refused_by_name(sandbox: Sandbox) -> None:
    (sandbox.project / "__main__.py").write_text(
        "import pulumi\npulumi.StackReference('organization/other/dev')\n"
    )
    refused = sandbox.run("preview", code=1)
    assert "the embedded engine does not support stack references" in refused
    assert "Traceback" not in refused


def test_a_missing_provider_is_named(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a"})
    (sandbox.project / "plugin" / "pulumi-resource-tiny").unlink()
    assert "provider 'tiny'" in sandbox.run("up", code=1)


def test_a_provider_that_does_not_start_is_reported_with_its_output(sandbox: Sandbox) -> None:
    sandbox.program({"key": "a"})
    plugin = sandbox.project / "plugin" / "pulumi-resource-tiny"
    plugin.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    failed = sandbox.run("up", code=1)
    assert "pulumi-resource-tiny printed '' instead of its port" in failed
    assert "out of order" in failed


def test_without_the_extra_the_message_names_it() -> None:
    blocked = (
        "import sys; sys.modules['grpc'] = None; from objectstore_app.cli.main import main; main()"
    )
    repository = Path(__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-c", blocked, "stack", "preview", "--cwd", str(repository / "pulumi")],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "pip install 'objectstore[deploy]'" in result.stderr


def test_cli_engine_without_the_command_says_so(sandbox: Sandbox) -> None:
    refused = sandbox.run("preview", "--engine", "cli", code=1, PATH="/nonexistent")
    assert "there is no `pulumi` command on the PATH" in refused


def test_cli_engine_becomes_the_command_with_our_backend(sandbox: Sandbox, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "pulumi"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@"\necho "$PULUMI_BACKEND_URL"\n')
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    said, _ = sandbox.start("up", "--engine", "auto", PATH=path).communicate(timeout=60)
    assert f"up --yes --skip-preview --stack dev --cwd {sandbox.project}" in said
    assert f"file://{sandbox.state_dir}/pulumi-cli" in said

    sandbox.program({"key": "a"})
    sandbox.run("up")
    said = sandbox.run("up", "--engine", "auto", PATH=path)
    assert "is kept by the embedded engine" in said
    assert "unchanged" in said


@pytest.mark.parametrize("bad", ["../up", "a b", ""])
def test_stack_names_that_cannot_be_are_refused(sandbox: Sandbox, bad: str) -> None:
    sandbox.program({"key": "a"})
    assert "not a stack name" in sandbox.run("up", "--stack", bad, code=1)
