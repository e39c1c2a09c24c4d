"""NodeImage: the image that a store's machines start from, shared by the stores of a substrate."""

from __future__ import annotations

from typing import ClassVar

from objectstore_infra import node_image
from objectstore_infra.provider.handler import (
    Context,
    Found,
    Handler,
    Input,
    OnChange,
    Output,
    text,
)
from objectstore_infra.provider.values import Record


class NodeImage(Handler):
    """Made once of what bundles have in common; each store that uses it holds it.

    Another bundle changes the resource in place: machines that were made from the old image keep
    running, so nothing that depends on this resource may be drawn into a replacement.
    """

    type_name = "NodeImage"
    inputs: ClassVar = {"bundle": Input(str, OnChange.UPDATE), "owner": Input(str)}
    outputs: ClassVar = {"alias": Output()}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Import the image, building it first where it is not cached."""
        return text(inputs, "owner"), self._hold(context, inputs)

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """See whether the image is there."""
        known = "alias" in state
        alias = text(state, "alias") if known else node_image.alias(text(state, "bundle"))
        if not context.substrate.find_image(alias):
            return None
        return Found(text(state, "owner"), state | {"alias": alias})

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Hold the new bundle's image instead of the old one's."""
        outputs = self._hold(context, inputs)
        if state["alias"] != outputs["alias"]:
            self.delete(context, resource_id, state)
        return outputs

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Let the image go; the last store to do so removes it."""
        context.substrate.drop_image(text(state, "alias"), text(state, "owner"))

    @staticmethod
    def _hold(context: Context, inputs: Record) -> Record:
        version = text(inputs, "bundle")
        alias = node_image.alias(version)
        if not context.substrate.find_image(alias):
            files = node_image.ensure_built(version, context.say)
            context.substrate.add_image(alias, files)
        context.substrate.hold_image(alias, text(inputs, "owner"))
        return {"alias": alias}
