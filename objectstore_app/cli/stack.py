"""`objectstore stack …`: preview, deploy and destroy the VMs of an object store.

This module holds the commands and the choice of the engine. The embedded engine is part of
`objectstore_infra`, which is loaded only here and only when a command runs; the real `pulumi`
command, where it is used instead, takes this process's place.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NoReturn

import click

INFRA = Path(__file__).resolve().parents[2] / "pulumi"
ENGINES = ("auto", "embedded", "cli")
# The embedded engine writes where it wants to; the real one keeps its stacks beside its own.
CLI_BACKEND = "pulumi-cli"
EXTRA_HINT = "`objectstore stack` needs the extra `deploy`: pip install 'objectstore[deploy]'"


@dataclass(frozen=True, slots=True)
class Target:
    """Which stack of which project, and by which engine."""

    stack: str
    directory: Path
    engine: str

    def cli(self) -> PulumiCommand | None:
        """The real command, or None where the embedded engine is to be used.

        Raises:
            ClickException: the command is asked for and not installed.
        """
        found = shutil.which("pulumi")
        if self.engine == "cli" and not found:
            raise click.ClickException("--engine cli: there is no `pulumi` command on the PATH")
        if self.engine == "embedded" or not found:
            return None
        if self.engine == "auto" and self.embedded().has_resources():
            click.echo(
                f"stack {self.stack} is kept by the embedded engine, which goes on with it; to move"
                " it to pulumi: objectstore stack export --engine embedded, stack import --engine"
                " cli",
                err=True,
            )
            return None
        return PulumiCommand(found, self.stack, self.directory)

    # The engine's types cannot be named here: it is loaded when it is needed.
    def embedded(self) -> Any:
        """The stack under the embedded engine."""
        operations = _operations()
        with _engine_errors():
            return operations.Stack(
                self.directory,
                self.stack,
                operations.default_state_dir(),
                lambda text: click.echo(text, err=True),
            )


@dataclass(frozen=True, slots=True)
class PulumiCommand:
    """The real `pulumi` with a local backend in our state folder."""

    path: str
    stack: str
    directory: Path

    def become(self, *arguments: str, create: bool = False) -> NoReturn:
        """Run `pulumi ARGUMENTS` in the place of this process, its stack created if need be."""
        environment = self._environment()
        if create:
            self._select(environment)
        command = [self.path, *arguments, "--stack", self.stack, "--cwd", str(self.directory)]
        os.execve(self.path, command, environment)  # noqa: S606 no shell is wanted

    def _select(self, environment: Mapping[str, str]) -> None:
        result = subprocess.run(
            [
                *(self.path, "stack", "select", "--create", "--non-interactive"),
                *("--stack", self.stack, "--cwd", str(self.directory)),
            ],
            env=environment,
            check=False,
        )
        if result.returncode != 0:
            sys.exit(result.returncode)

    def _environment(self) -> dict[str, str]:
        operations = _operations()
        state_dir: Path = operations.default_state_dir()
        backend = state_dir / CLI_BACKEND
        backend.mkdir(parents=True, exist_ok=True, mode=0o700)
        defaults = {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & os.environ.keys():
            with _engine_errors():
                operations.find_passphrase(state_dir)
            defaults["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(state_dir / "passphrase")
        return {**defaults, **os.environ}


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which stack, and hand it a `Target`."""

    @click.option(
        "-s", "--stack", default="local", show_default=True, envvar="OBJECTSTORE_STACK",
        help="Name of the stack.",
    )  # fmt: skip
    @click.option(
        "--cwd", type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of the Pulumi project.  [default: the deployment of this repository]",
    )  # fmt: skip
    @click.option(
        "--engine", type=click.Choice(ENGINES), default="auto", show_default=True,
        envvar="OBJECTSTORE_ENGINE",
        help="auto: `pulumi` where it is installed, else the embedded engine.",
    )  # fmt: skip
    @functools.wraps(command)
    def wrapped(stack: str, cwd: Path | None, engine: str, **rest: Any) -> None:
        command(Target(stack, _project_folder(cwd), engine), **rest)

    return wrapped


@click.group()
def stack() -> None:
    """Deploy an object store on VMs.

    The stack's settings are in Pulumi.STACK.yaml, its state in $OBJECTSTORE_STATE_DIR (default
    ~/.local/state/objectstore). Secrets in both are encrypted with the passphrase in
    PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE, else one made for you.
    """


json_events = click.option("--json", "as_json", is_flag=True, help="Show events, one JSON a line.")


@stack.command()
@target_options
def init(target: Target) -> None:
    """Create an empty stack; one that exists stays as it is."""
    if cli := target.cli():
        cli.become("stack", "select", create=True)
    with _engine_errors():
        created = target.embedded().init()
    click.echo(f"stack {target.stack} {'created' if created else 'exists already'}")


@stack.command()
@json_events
@target_options
def preview(target: Target, as_json: bool) -> None:
    """Show what `up` would do."""
    if cli := target.cli():
        cli.become("preview", *_if(as_json, "--json"), create=True)
    with _engine_errors():
        sys.exit(target.embedded().preview(_output(as_json)))


@stack.command()
@click.option("--refresh", is_flag=True, help="Look at what exists before comparing.")
@json_events
@target_options
def up(target: Target, refresh: bool, as_json: bool) -> None:
    """Create or change the deployment. Run it again after a failure: it goes on."""
    if cli := target.cli():
        options = (*_if(as_json, "--json"), *_if(refresh, "--refresh"))
        cli.become("up", "--yes", "--skip-preview", *options, create=True)
    with _engine_errors():
        sys.exit(target.embedded().up(_output(as_json), refresh=refresh))


@stack.command()
@json_events
@target_options
def refresh(target: Target, as_json: bool) -> None:
    """Bring the state to what exists, without changing anything that exists."""
    if cli := target.cli():
        cli.become("refresh", "--yes", "--skip-preview", *_if(as_json, "--json"))
    with _engine_errors():
        sys.exit(target.embedded().refresh(_output(as_json)))


@stack.command()
@json_events
@target_options
def destroy(target: Target, as_json: bool) -> None:
    """Delete the deployment, and everything in it."""
    if cli := target.cli():
        cli.become("destroy", "--yes", "--skip-preview", *_if(as_json, "--json"))
    with _engine_errors():
        sys.exit(target.embedded().destroy(_output(as_json)))


@stack.command()
@click.option("--file", "target_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--show-secrets", is_flag=True, help="Write secrets in plain text.")
@target_options
def export(target: Target, target_file: Path | None, show_secrets: bool) -> None:
    """Write the state as a Pulumi deployment, for `pulumi stack import`."""
    if cli := target.cli():
        file_option = ("--file", str(target_file.absolute())) if target_file else ()
        cli.become("stack", "export", *file_option, *_if(show_secrets, "--show-secrets"))
    with _engine_errors():
        document = target.embedded().export(show_secrets=show_secrets)
    text = json.dumps(document, indent=2)
    if target_file is None:
        click.echo(text)
        return
    descriptor = os.open(target_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text + "\n")


@stack.command(name="import")
@click.option(
    "--file", "source", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The deployment to read.  [default: standard input]",
)  # fmt: skip
@target_options
def import_(target: Target, source: Path | None) -> None:
    """Replace the state by a Pulumi deployment, from `pulumi stack export`."""
    if cli := target.cli():
        file_option = ("--file", str(source.absolute())) if source else ()
        cli.become("stack", "import", *file_option, create=True)
    with source.open() if source else click.open_file("-") as handle:
        document = _read_json(handle)
    with _engine_errors():
        count = target.embedded().import_(document)
    click.echo(f"stack {target.stack}: {count} resources imported")


@stack.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--show-secrets", is_flag=True, help="Show secrets in plain text.")
@target_options
def output(target: Target, name: str | None, as_json: bool, show_secrets: bool) -> None:
    """Show what the deployment gives: all outputs, or the one called NAME."""
    if cli := target.cli():
        options = (*_if(as_json, "--json"), *_if(show_secrets, "--show-secrets"))
        cli.become("stack", "output", *((name,) if name else ()), *options)
    with _engine_errors():
        outputs: dict[str, object] = target.embedded().outputs(show_secrets=show_secrets)
    if name is not None and name not in outputs:
        raise click.ClickException(f"stack {target.stack} has no output {name!r}")
    if as_json:
        click.echo(json.dumps(outputs if name is None else outputs[name], indent=2))
    elif name is not None:
        click.echo(_text(outputs[name]))
    else:
        width = max((len(key) for key in outputs), default=0)
        for key, value in sorted(outputs.items()):
            click.echo(f"{key:<{width}}  {_text(value)}")


@stack.command()
@target_options
def cancel(target: Target) -> None:
    """Ask the operation under way to stop after its running steps."""
    if cli := target.cli():
        cli.become("cancel", "--yes")
    with _engine_errors():
        process = target.embedded().cancel()
    if process is None:
        click.echo(f"no operation is under way on stack {target.stack}")
    else:
        click.echo(f"asked process {process} to stop after the steps under way")


@stack.group()
def config() -> None:
    """Read and write the stack's settings (Pulumi.STACK.yaml)."""


@config.command(name="set")
@click.argument("key")
@click.argument("value", required=False)
@click.option("--secret", is_flag=True, help="Store the value encrypted.")
@target_options
def config_set(target: Target, key: str, value: str | None, secret: bool) -> None:
    """Set KEY to VALUE; without VALUE it is read from standard input."""
    if value is None:
        value = sys.stdin.read().rstrip("\n")
    if cli := target.cli():
        cli.become("config", "set", *_if(secret, "--secret"), key, "--", value, create=True)
    with _engine_errors():
        target.embedded().set_config(key, value, secret=secret)


@config.command(name="get")
@click.argument("key")
@target_options
def config_get(target: Target, key: str) -> None:
    """Print the value of KEY, decrypted if it is secret."""
    if cli := target.cli():
        cli.become("config", "get", key)
    with _engine_errors():
        click.echo(target.embedded().get_config(key))


def _project_folder(given: Path | None) -> Path:
    candidates = [given] if given else [Path(), Path("pulumi"), INFRA]
    for folder in candidates:
        if (folder / "Pulumi.yaml").is_file():
            return folder.resolve()
    raise click.ClickException(
        f"no Pulumi.yaml in {' or '.join(str(folder.resolve()) for folder in candidates)};"
        " name the project's folder with --cwd"
    )


def _operations() -> ModuleType:
    return deployment_package("engine.operations")


@functools.cache
def deployment_package(name: str) -> ModuleType:
    """A module of the deployment, which is part of a checkout only.

    Raises: click.ClickException, when it or what it needs is not there.
    """
    if not (INFRA / "objectstore_infra").is_dir():
        raise click.ClickException(
            f"the deployment is not part of the installed package: {INFRA} does not exist; run this"
            " from a checkout of the repository"
        )
    if str(INFRA) not in sys.path:
        sys.path.append(str(INFRA))
    try:
        return importlib.import_module(f"objectstore_infra.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("objectstore_infra"):
            raise
        raise click.ClickException(f"{EXTRA_HINT} (missing: {error.name})") from error


@contextmanager
def _engine_errors() -> Iterator[None]:
    errors = importlib.import_module(f"{_operations().__package__}.errors")
    try:
        yield
    except errors.EngineError as error:
        raise click.ClickException(str(error)) from error


# The engine's own type, as above.
def _output(as_json: bool) -> Any:
    return _operations().Output(sys.stdout, as_json)


def _read_json(handle: IO[str]) -> object:
    try:
        document: object = json.load(handle)
    except ValueError as error:
        raise click.ClickException(f"not JSON: {error}") from error
    return document


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _if(condition: bool, option: str) -> tuple[str, ...]:
    return (option,) if condition else ()
