"""`objectstore bundle`: build, list and verify what the nodes of a deployment install."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import click

_OUTPUT = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the bundles.  [default: $XDG_CACHE_HOME/objectstore/bundles]",
)


def _infra(module: str) -> ModuleType:
    """A module of the deployment side, which lies in the source tree and not in our wheel."""
    folder = Path(__file__).resolve().parents[2] / "pulumi"
    if not (folder / "objectstore_infra").is_dir():
        raise click.ClickException(
            "bundles are built from a source tree: run this from a clone of the repository"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(f"objectstore_infra.{module}")


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the deployment side refuses into the command's error."""
    try:
        yield
    except _infra("errors").InfraError as error:
        raise click.ClickException(str(error)) from error


@click.group()
def bundle() -> None:
    """Build and check what the nodes of a deployment install.

    A bundle is one folder with all that nodes run, from their Debian packages to the store, and a
    signed listing with checksums. Nodes need no network to install it; upgrades start with one.
    """


@bundle.command()
@click.option(
    "--version",
    help="The version it gets, as 1.4.2.  [default: the release and a hash of this tree]",
)
@click.option("--profile", default="platform", show_default=True, help="What it holds.")
@_OUTPUT
@click.option("--replace", is_flag=True, help="Replace a bundle of that version.")
@click.option("--fresh", is_flag=True, help="Replace it, with Debian's packages of today.")
@click.option("--json", "as_json", is_flag=True, help='Print {"version", "path"} for machines.')
def build(
    version: str | None,
    profile: str,
    output: Path | None,
    replace: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    """Build a bundle of this source tree, or find that it exists already.

    What the cache lacks comes from the Debian mirror and the Python index that this machine uses
    and from the Go module proxy. The first build takes about ten minutes on two processors, most of
    it for Kubernetes; after a change of this tree it takes seconds.
    """

    def report(line: str) -> None:
        click.echo(line, err=as_json)

    with _refusals():
        made = _infra("bundle").build(
            version, profile=profile, output=output, report=report, replace=replace, fresh=fresh
        )
    if as_json:
        click.echo(json.dumps({"version": made.version, "path": str(made.path)}))


@bundle.command("list")
@_OUTPUT
@click.option("--json", "as_json", is_flag=True, help="Print what each holds as a JSON list.")
def list_bundles(output: Path | None, as_json: bool) -> None:
    """List the bundles on this machine, with what is in them."""
    bundles = _infra("bundle")
    base = output or bundles.bundles_dir()
    with _refusals():
        known = [bundles.look(base / name) for name in bundles.available(base)]
    if as_json:
        click.echo(json.dumps(known))
        return
    for contents in known:
        held = ", ".join(f"{row['name']} {row['version']}" for row in contents["artefacts"])
        mark = "" if contents["trusted"] else f"  NOT TRUSTED, signed by {contents['signer']}"
        click.echo(f"{contents['version']}  built {contents['built']}  {held}{mark}")
    if not known:
        click.echo(f"no bundles in {base}; build one: objectstore bundle build")


@bundle.command()
@click.argument("version")
@_OUTPUT
@click.option("--json", "as_json", is_flag=True, help="Print what it holds.")
def verify(version: str, output: Path | None, as_json: bool) -> None:
    """Check who built a bundle, and its files against the checksums of its listing."""
    bundles = _infra("bundle")
    with _refusals():
        contents = bundles.verify((output or bundles.bundles_dir()) / version)
    if as_json:
        click.echo(json.dumps(contents))
        return
    archives = len(contents["archives"])
    others = len(contents["artefacts"]) - archives
    count = f"{archives} archives" + (f", {others} other artefacts" if others else "")
    signed = f"signed by {contents['signer']}"
    click.echo(f"bundle {contents['version']} is complete: {count}, {signed}")


@bundle.command()
@click.argument("key", required=False)
@click.option("--remove", is_flag=True, help="Trust it no more.")
@click.option("--json", "as_json", is_flag=True, help='Print {"own", "others"} for machines.')
def trust(key: str | None, remove: bool, as_json: bool) -> None:
    """Install bundles of the builder with this public KEY; without one, show the trusted keys.

    A builder's key is what this command shows on the builder's machine as its own. Compare it over
    a way that you trust: it decides what the nodes run.
    """
    trusting = _infra("artefacts.trust")
    with _refusals():
        if key and remove:
            trusting.remove(key)
        elif key:
            trusting.add(key)
        elif remove:
            raise click.UsageError("--remove needs the KEY")
        own, others = trusting.public_text(trusting.own_key()), trusting.others()
    if as_json:
        click.echo(json.dumps({"own": own, "others": others}))
        return
    click.echo(f"{own}  this machine's own")
    for other in others:
        click.echo(other)


@bundle.command()
@click.argument("names", nargs=-1)
def lock(names: tuple[str, ...]) -> None:
    """Bring the lock files of Go artefacts to the versions that are declared."""
    with _refusals():
        _infra("bundle").lock(names, click.echo)
