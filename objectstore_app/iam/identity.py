"""Making a person: the rules for e-mail addresses, names and keys, and new random ones.

Pure: what is made here lies nowhere until the caller has put it into the directory. The secret in
`NewIdentity` is the only time it is seen in clear; it is shown once or written to the CSV.
"""

from __future__ import annotations

import csv
import io
import re
import secrets
import string
from dataclasses import dataclass
from typing import Final

from ..core.ids import UserId
from .errors import InvalidIdentityError

ACCESS_KEY_CHARACTERS: Final = 20
SECRET_KEY_CHARACTERS: Final = 40
OWNER_ID_BYTES: Final = 32
EMAIL_BYTES_MAX: Final = 254
NAME_BYTES_MAX: Final = 128

_ACCESS_ALPHABET = string.ascii_uppercase + string.digits
_SECRET_ALPHABET = string.ascii_letters + string.digits
_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_.-]{3,128}")
_SECRET_KEY = re.compile(r"[\x21-\x7e]{8,128}")
_OWNER_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """A person about to be added, with the one key pair it starts with."""

    id: UserId
    email: str
    name: str
    access_key: str
    secret_key: str


def new_identity(
    email: str,
    name: str = "",
    *,
    access_key: str = "",
    secret_key: str = "",
) -> NewIdentity:
    """Check what is given, make what is not.

    Raises: InvalidIdentityError, with the rule that was broken.
    """
    if bool(access_key) != bool(secret_key):
        raise InvalidIdentityError("keys", hint="give both the access key and the secret key")
    if access_key and not _ACCESS_KEY.fullmatch(access_key):
        raise InvalidIdentityError(
            "access key", access_key[:130], "3 to 128 letters, digits, '_', '.' or '-'"
        )
    if secret_key and not _SECRET_KEY.fullmatch(secret_key):
        raise InvalidIdentityError("secret key", hint="8 to 128 printable characters, no blanks")
    return NewIdentity(
        id=new_owner_id(),
        email=checked_email(email),
        name=checked_name(name or email.strip()),
        access_key=access_key or new_access_key(),
        secret_key=secret_key or new_secret_key(),
    )


def checked_email(email: str) -> str:
    """Return the address without outer blanks, its domain in lower case."""
    text = email.strip()
    if len(text) > EMAIL_BYTES_MAX or not _EMAIL.fullmatch(text) or ".." in text:
        raise InvalidIdentityError(
            "e-mail address", email[:EMAIL_BYTES_MAX], "expected something like name@example.com"
        )
    local, _, domain = text.rpartition("@")
    return f"{local}@{domain.lower()}"


def checked_name(name: str) -> str:
    text = name.strip()
    if not text or len(text.encode()) > NAME_BYTES_MAX or not text.isprintable():
        raise InvalidIdentityError(
            "name", name[:NAME_BYTES_MAX], f"1 to {NAME_BYTES_MAX} bytes of printable text"
        )
    return text


def new_access_key() -> str:
    return "".join(secrets.choice(_ACCESS_ALPHABET) for _ in range(ACCESS_KEY_CHARACTERS))


def new_secret_key() -> str:
    return "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(SECRET_KEY_CHARACTERS))


def new_owner_id() -> UserId:
    return UserId(secrets.token_hex(OWNER_ID_BYTES))


def is_owner_id(text: str) -> bool:
    return _OWNER_ID.fullmatch(text) is not None


def keys_csv(identity: NewIdentity) -> str:
    """The file of "Download keys": a header line and one line for the person."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("User Name", "Email", "Access Key", "Secret Key"))
    writer.writerow((identity.name, identity.email, identity.access_key, identity.secret_key))
    return out.getvalue()
