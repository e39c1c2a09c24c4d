"""Headers that ask for what this store does not do: refused by name instead of ignored.

A client that asked for encryption or a retention must never believe that it got them.
"""

from __future__ import annotations

from ..protocol.errors import S3Error
from .call import Call

_REFUSED_PREFIXES = (
    b"x-amz-server-side-encryption-context",
    b"x-amz-object-lock-",
    b"x-amz-grant-",
    b"x-amz-tagging",
    b"x-amz-website-redirect-location",
    b"x-amz-write-offset-bytes",
    b"x-amz-mfa",
    b"x-amz-if-match-",
)
_STORAGE_CLASS = "STANDARD"


def refuse_unsupported(call: Call) -> None:
    """Raises: S3Error NotImplemented with the header's name; InvalidStorageClass."""
    for name, value in call.notable():
        if name.startswith(_REFUSED_PREFIXES) and not _harmless(name, value):
            header = name.decode("latin-1")
            raise S3Error(
                "NotImplemented", f"{header} is not implemented by this store.", Header=header
            )
    storage_class = call.headers.get(b"x-amz-storage-class")
    if storage_class is not None and storage_class != _STORAGE_CLASS.encode():
        raise S3Error("InvalidStorageClass", StorageClassRequested=storage_class)


def _harmless(name: bytes, value: bytes) -> bool:
    """`x-amz-tagging-directive: COPY` asks for nothing while there are no tags."""
    return name == b"x-amz-tagging-directive" and value == b"COPY"
