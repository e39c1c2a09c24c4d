"""People in the directory: the first administrator, adding, listing and removing.

Joins iam (which makes and checks identities, and seals secrets) and the metadata client (which
keeps them). Returns after the directory is durable.
"""

from __future__ import annotations

import time

from ..core.ids import UserId
from ..iam.identity import NewIdentity, new_identity
from ..iam.keyring import Keyring
from ..metadata_service.api import AccessKey, AddUser, MetadataClient, RemoveUser, User
from ..metadata_service.errors import UserExistsError, UserMissingError
from .results import expect

FIRST_ADMINISTRATOR_EMAIL = "admin@objectstore.local"
FIRST_ADMINISTRATOR_NAME = "admin"


async def ensure_first_administrator(
    metadata: MetadataClient, keyring: Keyring, access_key: str = "", secret_key: str = ""
) -> NewIdentity | None:
    """Make the first administrator of a store that has nobody yet; None when it has someone.

    Without keys, random ones are made: the caller shows them once. Two processes may race here: one
    of them makes the administrator, the other gets None. Raises: InvalidIdentityError.
    """
    if await metadata.users():
        return None
    identity = new_identity(
        FIRST_ADMINISTRATOR_EMAIL,
        FIRST_ADMINISTRATOR_NAME,
        access_key=access_key,
        secret_key=secret_key,
    )
    try:
        await add_person(metadata, keyring, identity, administrator=True)
    except UserExistsError:
        return None
    return identity


async def add_person(
    metadata: MetadataClient,
    keyring: Keyring,
    identity: NewIdentity,
    *,
    administrator: bool = False,
) -> User:
    """Put a new identity into the directory. Raises: UserExistsError."""
    key = AccessKey(
        access_key=identity.access_key,
        sealed_secret=keyring.seal(identity.access_key, identity.secret_key),
        created_ms=time.time_ns() // 1_000_000,
    )
    added = await metadata.mutate_directory(
        AddUser(
            id=identity.id,
            email=identity.email,
            name=identity.name,
            administrator=administrator,
            keys=(key,),
        )
    )
    return expect(added, User)


async def find_person(metadata: MetadataClient, who: str) -> User | None:
    """The person with that owner id, e-mail address or access key."""
    for user in await metadata.users():
        if who in (user.id, user.email) or any(who == key.access_key for key in user.keys):
            return user
    return None


async def remove_person(metadata: MetadataClient, who: str) -> User:
    """Remove a person; the keys stop working at once, buckets stay. Raises: UserMissingError."""
    user = await find_person(metadata, who)
    if user is None:
        raise UserMissingError("remove user", who, "no such person")
    await metadata.mutate_directory(RemoveUser(id=UserId(user.id)))
    return user
