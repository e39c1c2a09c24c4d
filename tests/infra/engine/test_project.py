"""Pulumi.yaml and Pulumi.STACK.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_infra.engine.errors import ProjectError
from objectstore_infra.engine.project import Project, load_config, stack_salt, write_setting
from tests.infra.engine.memory import crypter


def _project(tmp_path: Path, text: str = "name: p\nruntime: python\n") -> Project:
    (tmp_path / "Pulumi.yaml").write_text(text)
    return Project.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("runtime: python\n", "`name` must be"),
        ("name: p\nruntime: go\n", "only `runtime: python`"),
        ("- a\n", "a mapping was expected"),
        ("name: [\n", "is not YAML"),
        ("name: p\nruntime: python\nplugins: {providers: [{path: x}]}\n", "needs `name`"),
    ],
)
def test_projects_that_cannot_be_used_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ProjectError, match=wrong):
        _project(tmp_path, text)


def test_settings_are_texts_with_objects_as_json_and_secrets_opened(tmp_path: Path) -> None:
    project = _project(
        tmp_path,
        "name: p\nruntime: {name: python}\n"
        "config: {one: 1, two: {default: x}, three: {type: string}}\n",
    )
    (tmp_path / "Pulumi.dev.yaml").write_text(
        "config:\n  p:one: 2\n  flag: true\n  day: 2026-01-02\n  other:list: [1, {a: b}]\n"
        f"  deep: {{in: {{secure: '{crypter().encrypt('hush')}'}}}}\n"
    )
    config = load_config(project, "dev", crypter)
    assert config.values == {
        "p:one": "2",
        "p:two": "x",
        "p:flag": "true",
        "p:day": "2026-01-02",
        "other:list": '[1, {"a": "b"}]',
        "p:deep": '{"in": "hush"}',
    }
    assert config.secret_keys == {"p:deep"}
    assert config.for_package("other") == {"list": ('[1, {"a": "b"}]', False)}


def test_a_secret_setting_brings_the_salt_into_the_file(tmp_path: Path) -> None:
    project = _project(tmp_path)
    write_setting(project, "dev", "open", "1", None)
    assert stack_salt(project, "dev") == ""
    write_setting(project, "dev", "word", "hush", crypter())
    assert stack_salt(project, "dev") == crypter().salt
    assert "hush" not in project.stack_file("dev").read_text()
    assert load_config(project, "dev", crypter).values == {"p:open": "1", "p:word": "hush"}
