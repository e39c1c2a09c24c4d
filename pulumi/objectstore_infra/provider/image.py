"""NodeImage: the image that a store's machines start from, shared by the stores of a substrate."""

from __future__ import annotations

from typing import ClassVar

from objectstore_infra import node_image
from objectstore_infra.provider.handler import Context, Found, Handler, Input, OnChange, text
from objectstore_infra.provider.values import Record


class NodeImage(Handler):
    """Built once per recipe; each store that uses it holds it.

    A new recipe changes the resource in place: machines that were made from the old image keep
    running, so nothing that depends on this resource may be drawn into a replacement.
    """

    type_name = "NodeImage"
    inputs: ClassVar = {"alias": Input(str, OnChange.UPDATE), "owner": Input(str)}

    def create(self, context: Context, inputs: Record) -> tuple[str, Record]:
        """Import the image, building it first where it is not cached."""
        self._hold(context, inputs)
        return text(inputs, "owner"), {}

    def read(self, context: Context, resource_id: str, state: Record) -> Found | None:
        """See whether the image is there."""
        if not context.substrate.find_image(text(state, "alias")):
            return None
        return Found(text(state, "owner"), state)

    def update(self, context: Context, resource_id: str, state: Record, inputs: Record) -> Record:
        """Hold the new image instead of the old one."""
        self._hold(context, inputs)
        if state["alias"] != inputs["alias"]:
            self.delete(context, resource_id, state)
        return {}

    def delete(self, context: Context, resource_id: str, state: Record) -> None:
        """Let the image go; the last store to do so removes it."""
        context.substrate.drop_image(text(state, "alias"), text(state, "owner"))

    @staticmethod
    def _hold(context: Context, inputs: Record) -> None:
        alias = text(inputs, "alias")
        if not context.substrate.find_image(alias):
            files = node_image.ensure_built(context.say)
            context.substrate.add_image(alias, files)
        context.substrate.hold_image(alias, text(inputs, "owner"))
