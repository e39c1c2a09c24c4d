"""What the application is given: everything it reads from and writes to, and its settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..iam.keyring import Keyring
from ..media.api import ChunkWriter, ExtentReader
from ..metadata_service.api import MetadataClient
from ..object_controller.keychain import KeyChain
from ..object_controller.receive import UploadMemory
from ..object_controller.write import Storage


@dataclass(frozen=True, slots=True)
class Services:
    """`domains` are the names under which buckets are host names (`BUCKET.DOMAIN`); `clock` tells
    seconds since 1970. `encrypted` and `compressed` are what becomes of bodies in buckets that say
    nothing about it.
    """

    metadata: MetadataClient
    reader: ExtentReader
    chunks: ChunkWriter
    keyring: Keyring
    region: str = "us-east-1"
    domains: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time
    memory: UploadMemory = field(default_factory=UploadMemory)
    encrypted: bool = False
    compressed: bool = False
    keys: KeyChain = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", KeyChain(self.metadata, self.keyring))

    @property
    def storage(self) -> Storage:
        """What the write path needs of all this."""
        return Storage(self.metadata, self.chunks, self.memory)
