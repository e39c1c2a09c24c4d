"""What the operator wrote: Pulumi.yaml (the project) and Pulumi.STACK.yaml (a stack's settings).

Both are Pulumi's own files and mean the same under the real command. Reading is PyYAML's; writing a
setting goes through ruamel.yaml, which keeps the comments of a file that people edit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from ruamel.yaml import YAML

from .errors import ProjectError
from .passphrase import Crypter
from .values import Json

# Ciphertexts are not to be folded.
_LINE_MAX = 1 << 20
STACK_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder and what its Pulumi.yaml says.

    `provider_dirs` maps a provider's name to the folder holding `pulumi-resource-NAME`; `defaults`
    are the settings Pulumi.yaml gives every stack.
    """

    name: str
    directory: Path
    main: Path
    provider_dirs: Mapping[str, Path]
    defaults: Mapping[str, Json]

    @classmethod
    def load(cls, directory: Path) -> Project:
        """Read DIRECTORY/Pulumi.yaml.

        Raises:
            ProjectError: it is missing, not understood, or not a Python project.
        """
        directory = directory.resolve()
        file = directory / "Pulumi.yaml"
        data = _read_yaml(file)
        if data is None:
            raise ProjectError(f"no Pulumi.yaml in {directory}", hint="name the folder with --cwd")
        name, runtime = data.get("name"), data.get("runtime")
        if not isinstance(name, str) or not STACK_NAME.match(name):
            raise ProjectError(f"{file}: `name` must be letters, digits, . _ -")
        language = runtime.get("name") if isinstance(runtime, dict) else runtime
        if language != "python":
            raise ProjectError(f"{file}: only `runtime: python` is supported, not {language!r}")
        main = directory / str(data.get("main") or ".")
        if main.is_dir():
            main = main / "__main__.py"
        return cls(name, directory, main, _provider_dirs(data, file), _defaults(data))

    def stack_file(self, stack: str) -> Path:
        """The settings file of `stack`.

        Raises:
            ProjectError: this cannot be the name of a stack.
        """
        if not STACK_NAME.match(stack) or stack.startswith("."):
            raise ProjectError(f"not a stack name: {stack!r}; use letters, digits, . _ -")
        return self.directory / f"Pulumi.{stack}.yaml"

    def qualify(self, key: str) -> str:
        """The full form of a setting's key, `NAMESPACE:NAME`."""
        return key if ":" in key else f"{self.name}:{key}"


@dataclass(frozen=True, slots=True)
class StackConfig:
    """A stack's settings as the program gets them: texts, objects as JSON, secrets opened."""

    values: Mapping[str, str] = field(default_factory=dict)
    secret_keys: frozenset[str] = frozenset()

    def for_package(self, package: str) -> dict[str, tuple[str, bool]]:
        """The settings `PACKAGE:NAME` by name, each with whether it is secret."""
        prefix = f"{package}:"
        return {
            key.removeprefix(prefix): (value, key in self.secret_keys)
            for key, value in self.values.items()
            if key.startswith(prefix)
        }


def stack_salt(project: Project, stack: str) -> str:
    """The `encryptionsalt` of the stack's file, empty where it has none."""
    data = _read_yaml(project.stack_file(stack)) or {}
    return str(data.get("encryptionsalt") or "")


def load_config(project: Project, stack: str, crypter: Callable[[], Crypter]) -> StackConfig:
    """Read the stack's settings; `crypter` is asked for only if one of them is secret.

    Raises:
        ProjectError: the file is not understood.
        StateError: a secret does not open with the passphrase.
    """
    file = project.stack_file(stack)
    data = _read_yaml(file) or {}
    given = data.get("config") or {}
    if not isinstance(given, dict):
        raise ProjectError(f"{file}: `config` must be a mapping")
    values: dict[str, str] = {
        project.qualify(key): _text(value) for key, value in project.defaults.items()
    }
    secret_keys = set()
    for key, value in given.items():
        opened, is_secret = _open_secure(value, crypter)
        values[project.qualify(str(key))] = _text(opened)
        if is_secret:
            secret_keys.add(project.qualify(str(key)))
    return StackConfig(values, frozenset(secret_keys))


def write_setting(
    project: Project, stack: str, key: str, value: str, crypter: Crypter | None
) -> None:
    """Set one setting in the stack's file, keeping the rest of the file as it is written.

    With a `crypter` the value is stored encrypted, and the salt is noted in the file.
    """
    file = project.stack_file(stack)
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = _LINE_MAX
    data = (editor.load(file.read_text()) if file.exists() else None) or {}
    if crypter is not None:
        data["encryptionsalt"] = crypter.salt
    stored: object = {"secure": crypter.encrypt(value)} if crypter is not None else value
    data.setdefault("config", {})[project.qualify(key)] = stored
    with file.open("w") as handle:
        editor.dump(data, handle)


def _open_secure(value: Json, crypter: Callable[[], Crypter]) -> tuple[Json, bool]:
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            return crypter().decrypt(str(value["secure"])), True
        pairs = {str(key): _open_secure(part, crypter) for key, part in value.items()}
        return {k: v for k, (v, _) in pairs.items()}, any(s for _, s in pairs.values())
    if isinstance(value, list):
        items = [_open_secure(part, crypter) for part in value]
        return [part for part, _ in items], any(s for _, s in items)
    return value, False


def _text(value: Json) -> str:
    # `default=str` is for the dates that YAML reads out of unquoted text.
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str).strip('"')


def _provider_dirs(data: dict[str, Json], file: Path) -> dict[str, Path]:
    plugins = data.get("plugins") or {}
    providers = plugins.get("providers") if isinstance(plugins, dict) else None
    found = {}
    for row in providers if isinstance(providers, list) else []:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise ProjectError(f"{file}: each of `plugins.providers` needs `name` and `path`")
        found[str(row["name"])] = (file.parent / str(row.get("path") or ".")).resolve()
    return found


def _defaults(data: dict[str, Json]) -> dict[str, Json]:
    config = data.get("config")
    defaults: dict[str, Json] = {}
    for key, row in config.items() if isinstance(config, dict) else []:
        if not isinstance(row, dict):
            defaults[str(key)] = row
        elif (default := row.get("value", row.get("default"))) is not None:
            defaults[str(key)] = default
    return defaults


def _read_yaml(file: Path) -> dict[str, Json] | None:
    try:
        data = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"cannot read {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ProjectError(f"{file} is not YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ProjectError(f"{file}: a mapping was expected")
    return data
