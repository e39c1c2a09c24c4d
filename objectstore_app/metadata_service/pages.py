"""What listings tell of an entry, in the shape that `protocol/xml_write.py` renders."""

from __future__ import annotations

from ..protocol.checksums import FULL_OBJECT
from .api import Attributes

HOUR_MS = 3_600_000


def checksum_text(attributes: Attributes) -> str:
    """What a listing tells of the checksum: the algorithm, and the type where it is another than
    FULL_OBJECT (`SHA256 COMPOSITE`); empty where there is none.
    """
    for algorithm in attributes.checksums:
        kind = attributes.checksum_type
        return algorithm if kind == FULL_OBJECT else f"{algorithm} {kind}"
    return ""
