"""NodeImage: the image that a store's machines start from, shared by the stores of a substrate."""

from __future__ import annotations

from typing import ClassVar

from objectstore_infra import node_image
from objectstore_infra.provider.handler import Context, Found, Handler, Input, text
from objectstore_infra.provider.values import Record


class NodeImage(Handler):
    """Built once per recipe; each store that uses it holds it."""

    type_name = "NodeImage"
    inputs: ClassVar = {"alias": Input(str), "owner": Input(str)}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Import the image, building it first where it is not cached."""
        alias = text(inputs, "alias")
        if not context.substrate.find_image(alias):
            files = node_image.ensure_built(context.say)
            context.substrate.add_image(alias, files)
        context.substrate.hold_image(alias, text(inputs, "owner"))
        return alias, {}

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """See whether the image is there."""
        alias = text(state, "alias")
        return Found(alias, state) if context.substrate.find_image(alias) else None

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Let the image go; the last store to do so removes it."""
        context.substrate.drop_image(resource_id, text(state, "owner"))
