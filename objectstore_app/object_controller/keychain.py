"""The key store as a process sees it: named keys, whose versions wrap the data keys of bodies.

The directory keeps every version sealed under the store's master key; who holds that key and reads
the directory, beside the data folder or on another node, opens them. Which version is active is
asked anew for each write (the metadata client's cache is exact); what a version is never changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from ..iam.envelope import new_data_key
from ..iam.keyring import Keyring
from ..metadata_service.api import (
    AddStoreKey,
    CloseKey,
    KeyVersion,
    MetadataClient,
    RemoveKeyVersion,
    RotateStoreKey,
    StoreKey,
)
from ..metadata_service.errors import StoreKeyExistsError, StoreKeyInUseError, StoreKeyMissingError
from .results import expect

DEFAULT_KEY: Final = "default"
"""What wraps when nobody names a key; made when it is first needed."""

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class KeyDirectory(Protocol):
    """Where the named keys are read."""

    async def store_keys(self) -> Sequence[StoreKey]: ...


class OpenKeys:
    """Opens versions of keys, each once."""

    def __init__(self, directory: KeyDirectory, keyring: Keyring) -> None:
        self._directory = directory
        self._keyring = keyring
        self._opened: dict[int, bytes] = {}

    async def version(self, key: int) -> bytes:
        """The bytes of a version that wrapped something.

        Raises: StoreKeyMissingError, SealError.
        """
        opened = self._opened.get(key)
        if opened is not None:
            return opened
        for store_key in await self._directory.store_keys():
            for version in store_key.versions:
                if version.id == key:
                    return self._open(store_key.name, version)
        raise StoreKeyMissingError("find key", f"version {key}")

    async def successor(self, key: int) -> tuple[int, bytes]:
        """The active version of the key that has that version, which may be the same.

        Raises: StoreKeyMissingError, SealError.
        """
        for store_key in await self._directory.store_keys():
            if any(version.id == key for version in store_key.versions):
                newest = store_key.versions[-1]
                return newest.id, self._open(store_key.name, newest)
        raise StoreKeyMissingError("find key", f"version {key}")

    async def find(self, name: str) -> StoreKey | None:
        for key in await self._directory.store_keys():
            if key.name == name:
                return key
        return None

    def _open(self, name: str, version: KeyVersion) -> bytes:
        opened = self._opened.get(version.id)
        if opened is None:
            opened = self._keyring.open_store_key(name, version.sealed)
            self._opened[version.id] = opened
        return opened


class KeyChain(OpenKeys):
    """The key store of a front end: what wraps now, and changes to the keys."""

    def __init__(self, metadata: MetadataClient, keyring: Keyring) -> None:
        super().__init__(metadata, keyring)
        self._metadata = metadata

    async def active(self, name: str) -> tuple[int, bytes]:
        """The version that wraps now: its id and its bytes. Raises: StoreKeyMissingError,
        SealError.
        """
        key = await self.find(name)
        if key is None and name == DEFAULT_KEY:
            key = await self._make_default()
        if key is None:
            raise StoreKeyMissingError("find key", name)
        version = key.versions[-1]
        return version.id, self._open(key.name, version)

    async def add(self, name: str) -> StoreKey:
        """Raises: StoreKeyExistsError."""
        mutation = AddStoreKey(name=name, sealed=self._sealed(name))
        return expect(await self._metadata.mutate_directory(mutation), StoreKey)

    async def rotate(self, name: str) -> StoreKey:
        """A new version wraps from here on. Raises: StoreKeyMissingError."""
        mutation = RotateStoreKey(name=name, sealed=self._sealed(name))
        return expect(await self._metadata.mutate_directory(mutation), StoreKey)

    async def retire(self, name: str, version: int) -> StoreKey:
        """Forget a version for good, once nothing needs it.

        Every data shard closes it first: from there none takes a body that is wrapped by it, so
        that its last user is gone before it is. Raises: StoreKeyMissingError, StoreKeyInUseError.
        """
        key = await self.find(name)
        if key is None or all(one.id != version for one in key.versions):
            raise StoreKeyMissingError("retire key", f"{name} {version}")
        if key.versions[-1].id == version:
            raise StoreKeyInUseError(
                "retire key", f"{name} {version}", "it is active: rotate first"
            )
        await self._metadata.mutate_shards(CloseKey(key=version))
        mutation = RemoveKeyVersion(name=name, version=version)
        return expect(await self._metadata.mutate_directory(mutation), StoreKey)

    async def _make_default(self) -> StoreKey | None:
        try:
            return await self.add(DEFAULT_KEY)
        except StoreKeyExistsError:
            return await self.find(DEFAULT_KEY)

    def _sealed(self, name: str) -> bytes:
        return self._keyring.seal_store_key(name, new_data_key())
