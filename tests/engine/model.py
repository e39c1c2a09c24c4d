"""S3's version semantics, written as simply as can be, to hold the data shard against.

A bucket is a dict of key → versions, newest first. Ids are taken from the answers of the shard.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Version:
    version_id: str
    etag: str
    size: int
    marker: bool


@dataclass
class ModelBucket:
    versioning: str = ""
    keys: dict[bytes, list[Version]] = field(default_factory=dict)
    uploads: dict[str, tuple[bytes, dict[int, tuple[str, int]]]] = field(default_factory=dict)

    def current(self, key: bytes) -> Version | None:
        versions = self.keys.get(key)
        return versions[0] if versions and not versions[0].marker else None

    def write(self, key: bytes, version: Version) -> None:
        versions = self.keys.setdefault(key, [])
        if self.versioning != "Enabled":
            versions[:] = [one for one in versions if one.version_id != "null"]
        versions.insert(0, version)

    def delete(self, key: bytes, marker_id: str) -> None:
        if self.versioning:
            self.write(key, Version(marker_id, "", 0, marker=True))
        else:
            self.keys.pop(key, None)

    def delete_version(self, key: bytes, version_id: str) -> bool:
        versions = self.keys.get(key, [])
        kept = [one for one in versions if one.version_id != version_id]
        found = len(kept) < len(versions)
        if kept:
            self.keys[key] = kept
        else:
            self.keys.pop(key, None)
        return found

    def objects(self, prefix: bytes, after: bytes, delimiter: bytes) -> list[bytes]:
        """Keys and common prefixes of a whole listing, in order."""
        entries: list[bytes] = []
        for key in sorted(self.keys):
            if not key.startswith(prefix) or key <= after or self.current(key) is None:
                continue
            shared = group(key, prefix, delimiter)
            if shared is not None and after.startswith(shared):
                continue
            entry = key if shared is None else shared
            if entry not in entries:
                entries.append(entry)
        return entries

    def versions(self, prefix: bytes, delimiter: bytes) -> list[tuple[bytes, str, bool]]:
        """(key, version id, latest) or (common prefix, "", False), in order."""
        entries: list[tuple[bytes, str, bool]] = []
        for key in sorted(self.keys):
            if not key.startswith(prefix):
                continue
            shared = group(key, prefix, delimiter)
            if shared is not None:
                if (shared, "", False) not in entries:
                    entries.append((shared, "", False))
                continue
            for index, version in enumerate(self.keys[key]):
                entries.append((key, version.version_id, index == 0))
        return entries

    def usage(self) -> tuple[int, int, int, int]:
        whole = [one for versions in self.keys.values() for one in versions if not one.marker]
        objects = sum(self.current(key) is not None for key in self.keys)
        return objects, len(whole), sum(one.size for one in whole), len(self.uploads)


def group(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix that stands for the key, if one does."""
    found = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if found < 0 else key[: found + len(delimiter)]
