"""The fixed program of the engine's tests: turns the rows of `things.json` into resources.

A row: `key`; `name`, `size`, `zone`, `token` (a secret), `note`, `exclusive`, `fail`, `log`, as in
the provider; `uses` (keys whose `path` becomes an input), `after` (keys in depends_on), `box` (the
name of a component to be in), and the resource options `protect`, `retain`, `ignore`, `aliases`,
`before` (delete_before_replace), `secret_outputs`.
"""

import json
from pathlib import Path

import pulumi


class Thing(pulumi.CustomResource):
    """One file in the tiny provider's world."""

    path: pulumi.Output[str]

    def __init__(self, name: str, props: dict, opts: pulumi.ResourceOptions) -> None:
        super().__init__("tiny:index:Thing", name, {**props, "path": None}, opts)


class Box(pulumi.ComponentResource):
    """A component that holds things."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tiny:index:Box", name, None, opts)
        self.register_outputs({"name": name})


def main() -> None:
    """Register the rows in their order."""
    things: dict[str, Thing] = {}
    boxes: dict[str, Box] = {}
    for row in json.loads(Path("things.json").read_text()):
        props = {
            key: row[key]
            for key in ("name", "size", "zone", "note", "exclusive", "fail", "log")
            if key in row
        }
        if "token" in row:
            props["token"] = pulumi.Output.secret(row["token"])
        props["uses"] = [things[key].path for key in row.get("uses", ())]
        box = row.get("box")
        if box and box not in boxes:
            aliases = [pulumi.Alias(name=name) for name in row.get("box_aliases", ())]
            boxes[box] = Box(box, pulumi.ResourceOptions(aliases=aliases))
        options = pulumi.ResourceOptions(
            version="0.0.1",
            parent=boxes[box] if box else None,
            depends_on=[things[key] for key in row.get("after", ())],
            protect=row.get("protect", False),
            retain_on_delete=row.get("retain", False),
            delete_before_replace=row.get("before"),
            ignore_changes=row.get("ignore", []),
            additional_secret_outputs=row.get("secret_outputs", []),
            aliases=[pulumi.Alias(name=name) for name in row.get("aliases", ())],
        )
        things[row["key"]] = Thing(row["key"], props, options)
    for key, thing in things.items():
        pulumi.export(key, thing.path)
    if (word := pulumi.Config().get_secret("word")) is not None:
        pulumi.export("word", word)


main()
