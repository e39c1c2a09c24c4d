"""Node images of the Incus substrate: streamed in, shared by stores, deleted by the last one.

Which stores use an image is recorded in its properties, `objectstore.holder.OWNER`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from objectstore_infra.errors import ConflictError
from objectstore_infra.substrates.incus_base import IncusPart

IMAGE_HOLDER = "objectstore.holder."
UPLOAD_CHUNK_BYTES = 1 << 20


class IncusImages(IncusPart):
    """Implements the image methods of `base.Substrate`."""

    def find_image(self, alias: str) -> bool:
        """Say whether the image is there."""
        return self._client.exists(f"/images/aliases/{alias}")

    def add_image(self, alias: str, files: Sequence[Path]) -> None:
        """Import metadata and root file system under an alias."""
        metadata, rootfs = files
        boundary = secrets.token_hex(16)
        parts = [("metadata", metadata), ("rootfs", rootfs)]
        length = _multipart_length(boundary, parts)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(length),
        }
        try:
            self._client.upload("/images", _multipart(boundary, parts), headers)
        except ConflictError:
            # An interrupted import got as far as the image but not as far as its alias.
            if not self._client.exists(f"/images/{_fingerprint_of(files)}"):
                raise
        alias_body = {"name": alias, "target": _fingerprint_of(files)}
        self._client.post("/images/aliases", alias_body)

    def hold_image(self, alias: str, owner: str) -> None:
        """Record that the owner uses the image."""
        self._update_image(alias, lambda holders: holders | {owner})

    def drop_image(self, alias: str, owner: str) -> None:
        """Drop the owner's hold; delete the image when nobody holds it any more."""
        if self.find_image(alias):
            self._update_image(alias, lambda holders: holders - {owner})

    def _fingerprint(self, alias: str) -> str:
        return str(self._client.get(f"/images/aliases/{alias}").metadata["target"])

    def _update_image(self, alias: str, change: Callable[[set[str]], set[str]]) -> None:
        """Change the set of holders; an image that nobody holds goes."""
        path = f"/images/{self._fingerprint(alias)}"
        with self._exclusive():
            answer = self._client.get(path)
            properties = dict(answer.metadata["properties"])
            before = {
                key.removeprefix(IMAGE_HOLDER) for key in properties if key.startswith(IMAGE_HOLDER)
            }
            after = change(set(before))
            if not after:
                self._client.delete(path)
            elif after != before:
                others = {k: v for k, v in properties.items() if not k.startswith(IMAGE_HOLDER)}
                holds = {f"{IMAGE_HOLDER}{owner}": "yes" for owner in after}
                fields = ("auto_update", "public", "expires_at", "profiles")
                body = {field: answer.metadata[field] for field in fields}
                self._client.put(path, {**body, "properties": others | holds}, etag=answer.etag)


def _fingerprint_of(files: Sequence[Path]) -> str:
    """Return what Incus calls an image made of these files."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            while block := source.read(UPLOAD_CHUNK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _part_head(boundary: str, name: str, file: Path) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


def _multipart_length(boundary: str, parts: Sequence[tuple[str, Path]]) -> int:
    heads = sum(len(_part_head(boundary, *part)) + part[1].stat().st_size + 2 for part in parts)
    return heads + len(f"--{boundary}--\r\n")


def _multipart(boundary: str, parts: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    for name, file in parts:
        yield _part_head(boundary, name, file)
        with file.open("rb") as source:
            while block := source.read(UPLOAD_CHUNK_BYTES):
                yield block
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
