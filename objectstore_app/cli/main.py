"""The `objectstore` command: a table of sub-commands, each loaded only when it is used.

A start of the store must not pay for the deployment's imports, nor `--help` for anyone's. A new
sub-command is a row in `COMMANDS`: its name, the place of its click command and its one-line help.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click

from .. import __version__


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a sub-command lives (`module` below this package, attribute `name`) and what lists it.

    `extra` names the optional dependencies of the distribution that the module needs.
    """

    module: str
    name: str
    help: str
    extra: str


COMMANDS: dict[str, LazyCommand] = {
    "serve": LazyCommand("serve", "serve", "Run the object store on this machine.", "serve"),
    "service": LazyCommand("service", "service", "Run one service of a deployed store.", "rados"),
    "status": LazyCommand("status", "status", "Show whether a store is up and well.", "serve"),
    "user": LazyCommand("user", "user", "Add, list and remove people.", "serve"),
    "bucket": LazyCommand("bucket", "bucket", "Show buckets, set their compression.", "serve"),
    "key": LazyCommand("key", "key", "Manage the keys that encrypt objects.", "serve"),
    "atlas": LazyCommand("atlas", "atlas", "Give space back, verify what is stored.", "serve"),
    "fsck": LazyCommand("fsck", "fsck", "Verify or rebuild a data folder.", "serve"),
    "endpoints": LazyCommand(
        "endpoints", "endpoints", "Keep an Envoy's list of pods current.", "serve"
    ),
    "hung": LazyCommand("hung", "hung", "End an Envoy's connections to pods that hang.", "serve"),
    "bundle": LazyCommand(
        "bundle", "bundle", "Build what the nodes of a deployment install.", "deploy"
    ),
    "stack": LazyCommand("stack", "stack", "Deploy an object store on VMs.", "deploy"),
    "backup": LazyCommand(
        "backup", "backup", "Keep and bring back the keys of a deployed store.", "deploy"
    ),
}


class LazyGroup(click.Group):
    """A click group whose commands come from `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        try:
            module = importlib.import_module(f"{__package__}.{row.module}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("objectstore_app"):
                raise
            raise click.ClickException(
                f"`{cmd_name}` needs the Python package {error.name!r}; install it with: "
                f"pip install 'objectstore[{row.extra}]'"
            ) from error
        command: click.Command = getattr(module, row.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="objectstore")
def main() -> None:
    """An S3 object store that runs on your own machines, and deploys itself there.

    `objectstore serve` runs a whole store over a local folder; `objectstore stack up` deploys one
    on VMs. Every option of a command can be given as an environment variable, named in its help.
    """


if __name__ == "__main__":
    main()
