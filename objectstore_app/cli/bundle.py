"""`objectstore bundle`: build, list and verify what the nodes of a deployment install."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import click

_OUTPUT = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the bundles.  [default: $XDG_CACHE_HOME/objectstore/bundles]",
)


def _bundles() -> ModuleType:
    """The deployment side's module, which lies in the source tree and not in our wheel."""
    folder = Path(__file__).resolve().parents[2] / "pulumi"
    if not (folder / "objectstore_infra").is_dir():
        raise click.ClickException(
            "bundles are built from a source tree: run this from a clone of the repository"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("objectstore_infra.bundle")


@click.group()
def bundle() -> None:
    """Build and check what the nodes of a deployment install.

    A bundle is one folder with our wheel, the wheels it needs, Envoy, and a manifest with
    checksums. The nodes install from it without any network; upgrades start with one.
    """


@bundle.command()
@click.option(
    "--version",
    help="The version it gets, as 1.4.2.  [default: the release and a hash of this tree]",
)
@_OUTPUT
@click.option("--replace", is_flag=True, help="Replace a bundle of that version.")
@click.option("--json", "as_json", is_flag=True, help='Print {"version", "path"} for machines.')
def build(version: str | None, output: Path | None, replace: bool, as_json: bool) -> None:
    """Build a bundle of this source tree, or find that it exists already.

    The package index is needed for what the cache lacks; a second build takes seconds.
    """
    bundles = _bundles()

    def report(line: str) -> None:
        click.echo(line, err=as_json)

    try:
        made = bundles.build(version, output=output, report=report, replace=replace)
    except bundles.BundleError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps({"version": made.version, "path": str(made.path)}))


@bundle.command("list")
@_OUTPUT
@click.option("--json", "as_json", is_flag=True, help="Print the manifests as a JSON list.")
def list_bundles(output: Path | None, as_json: bool) -> None:
    """List the bundles on this machine, with what is in them."""
    bundles = _bundles()
    base = output or bundles.bundles_dir()
    try:
        manifests = [bundles.read_manifest(base / name) for name in bundles.available(base)]
    except bundles.BundleError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(manifests))
        return
    for manifest in manifests:
        archives = ", ".join(f"{a['name']} {a['version']}" for a in manifest["archives"])
        click.echo(f"{manifest['version']}  built {manifest['built']}  {archives}")
    if not manifests:
        click.echo(f"no bundles in {base}; build one: objectstore bundle build")


@bundle.command()
@click.argument("version")
@_OUTPUT
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
def verify(version: str, output: Path | None, as_json: bool) -> None:
    """Check a bundle's files against the sizes and checksums of its manifest."""
    bundles = _bundles()
    folder = (output or bundles.bundles_dir()) / version
    try:
        manifest = bundles.verify(folder)
    except bundles.BundleError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(manifest))
        return
    click.echo(f"bundle {manifest['version']} is complete: {len(manifest['archives'])} archives")
