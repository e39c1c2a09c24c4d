"""The directory shard: buckets by name, people, access keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw
import msgspec

from ..core.errors import InvariantError
from ..core.ids import BucketId, ShardId, UserId
from ..core.ids import Sequence as LogSequence
from ..media.api import Extent
from .api import (
    AccessKey,
    AddStoreKey,
    AddUser,
    Bucket,
    CreateBucket,
    KeyVersion,
    RemoveBucket,
    RemoveKeyVersion,
    RemoveUser,
    RotateStoreKey,
    SetBucketAcl,
    SetBucketSetting,
    StoreKey,
    User,
)
from .effects import (
    BucketAclSet,
    BucketCreated,
    BucketRemoved,
    BucketSettingSet,
    Effect,
    StoreKeySet,
    UserAdded,
    UserRemoved,
)
from .errors import (
    BucketExistsError,
    BucketMissingError,
    StoreKeyExistsError,
    StoreKeyInUseError,
    StoreKeyMissingError,
    UserExistsError,
    UserMissingError,
)
from .machine import Decision, Mutation

_encode = msgspec.msgpack.Encoder().encode
_decode_bucket = msgspec.msgpack.Decoder(Bucket).decode
_decode_user = msgspec.msgpack.Decoder(User).decode
_decode_store_key = msgspec.msgpack.Decoder(StoreKey).decode
_Item = TypeVar("_Item")


class DirectoryMachine:
    """Decides and applies what concerns names, people and store keys.

    A bucket's id is the sequence of the record that made it, its shard the id modulo the number of
    data shards.
    """

    def __init__(self, connection: apsw.Connection, data_shards: int) -> None:
        self._db = connection
        self._data_shards = data_shards

    def decide(self, mutation: Mutation, sequence: LogSequence, now_ms: int) -> Decision:
        match mutation:
            case CreateBucket():
                return self._create(mutation, sequence, now_ms)
            case RemoveBucket():
                self._bucket(mutation.id)
                return Decision(BucketRemoved(mutation.id), None)
            case SetBucketAcl():
                self._bucket(mutation.id)
                return Decision(BucketAclSet(mutation.id, mutation.acl), None)
            case AddUser():
                return self._add(mutation, now_ms)
            case RemoveUser():
                if find_user(self._db, mutation.id) is None:
                    raise UserMissingError("remove user", mutation.id)
                return Decision(UserRemoved(mutation.id), None)
            case SetBucketSetting(id=bucket_id, name=name, value=value):
                self._bucket(bucket_id)
                return Decision(BucketSettingSet(bucket_id, name, value), None)
            case AddStoreKey() | RotateStoreKey():
                return self._set_key(mutation, sequence, now_ms)
            case RemoveKeyVersion():
                return self._remove_version(mutation)
        raise InvariantError("decide", f"{type(mutation).__name__} is not the directory's")

    def apply(
        self,
        effect: Effect,
        sequence: LogSequence,
        body: bytes | memoryview,
        extent: Extent | None,
    ) -> None:
        match effect:
            case BucketCreated(bucket):
                self._db.execute(
                    "INSERT INTO buckets VALUES (?, ?, ?, ?)",
                    (bucket.id, bucket.name, bucket.owner, _encode(bucket)),
                )
            case BucketRemoved(bucket_id):
                self._db.execute("DELETE FROM buckets WHERE id=?", (bucket_id,))
            case BucketAclSet(bucket_id, acl):
                self._replace(msgspec.structs.replace(self._bucket(bucket_id), acl=acl))
            case BucketSettingSet(bucket_id, name, value):
                bucket = self._bucket(bucket_id)
                settings = {**bucket.settings, name: value}
                if not value:
                    del settings[name]
                self._replace(msgspec.structs.replace(bucket, settings=settings))
            case UserAdded(user):
                self._db.execute(
                    "INSERT INTO users VALUES (?, ?, ?)", (user.id, user.email, _encode(user))
                )
                for key in user.keys:
                    self._db.execute("INSERT INTO keys VALUES (?, ?)", (key.access_key, user.id))
            case UserRemoved(user_id):
                self._db.execute("DELETE FROM keys WHERE user=?", (user_id,))
                self._db.execute("DELETE FROM users WHERE id=?", (user_id,))
            case StoreKeySet(store_key):
                self._db.execute(
                    "INSERT OR REPLACE INTO store_keys VALUES (?, ?)",
                    (store_key.name, _encode(store_key)),
                )
            case _:
                raise InvariantError("apply", f"{type(effect).__name__} is not the directory's")

    def flush(self) -> None:
        """Nothing is kept back."""

    def forget(self) -> None:
        """Nothing is kept in memory."""

    def _create(self, mutation: CreateBucket, sequence: int, now_ms: int) -> Decision:
        taken = find_bucket(self._db, mutation.name)
        if taken is not None:
            raise BucketExistsError("create bucket", mutation.name, taken.owner)
        bucket = Bucket(
            id=BucketId(sequence),
            name=mutation.name,
            owner=mutation.owner,
            shard=ShardId(sequence % self._data_shards),
            created_ms=now_ms,
            acl=mutation.acl,
            region=mutation.region,
        )
        return Decision(BucketCreated(bucket), bucket)

    def _add(self, mutation: AddUser, now_ms: int) -> Decision:
        taken = self._db.execute(
            "SELECT email FROM users WHERE id=? OR email=?", (mutation.id, mutation.email)
        ).fetchall()
        if taken:
            raise UserExistsError("add user", mutation.email)
        names = {key.access_key for key in mutation.keys}
        if len(names) < len(mutation.keys):
            raise UserExistsError("add user", mutation.email, "an access key is named twice")
        for name in names:
            if self._db.execute("SELECT 1 FROM keys WHERE access_key=?", (name,)).fetchall():
                raise UserExistsError("add user", mutation.email, "the access key is taken")
        user = User(
            id=mutation.id,
            email=mutation.email,
            name=mutation.name,
            created_ms=now_ms,
            administrator=mutation.administrator,
            keys=mutation.keys,
        )
        return Decision(UserAdded(user), user)

    def _set_key(
        self, mutation: AddStoreKey | RotateStoreKey, sequence: int, now_ms: int
    ) -> Decision:
        held = find_store_key(self._db, mutation.name)
        versions: tuple[KeyVersion, ...] = ()
        if isinstance(mutation, AddStoreKey):
            if held is not None:
                raise StoreKeyExistsError("add key", mutation.name)
        elif held is None:
            raise StoreKeyMissingError("rotate key", mutation.name)
        else:
            versions = held.versions
        version = KeyVersion(id=sequence, created_ms=now_ms, sealed=mutation.sealed)
        key = StoreKey(name=mutation.name, versions=(*versions, version))
        return Decision(StoreKeySet(key), key)

    def _remove_version(self, mutation: RemoveKeyVersion) -> Decision:
        subject = f"{mutation.name} {mutation.version}"
        held = find_store_key(self._db, mutation.name)
        if held is None or all(one.id != mutation.version for one in held.versions):
            raise StoreKeyMissingError("retire key", subject)
        if held.versions[-1].id == mutation.version:
            raise StoreKeyInUseError("retire key", subject, "it is active: rotate first")
        versions = tuple(one for one in held.versions if one.id != mutation.version)
        key = StoreKey(name=mutation.name, versions=versions)
        return Decision(StoreKeySet(key), key)

    def _replace(self, bucket: Bucket) -> None:
        self._db.execute("UPDATE buckets SET record=? WHERE id=?", (_encode(bucket), bucket.id))

    def _bucket(self, bucket_id: BucketId) -> Bucket:
        rows = self._db.execute("SELECT record FROM buckets WHERE id=?", (bucket_id,)).fetchall()
        if not rows:
            raise BucketMissingError("find bucket", str(bucket_id))
        return _decode_bucket(rows[0][0])


# --- reads, of committed state ---


def find_bucket(connection: apsw.Connection, name: str) -> Bucket | None:
    return _one(connection, "SELECT record FROM buckets WHERE name=?", name, _decode_bucket)


def buckets_of(connection: apsw.Connection, owner: UserId) -> Sequence[Bucket]:
    rows = connection.execute(
        "SELECT record FROM buckets WHERE owner=? ORDER BY name", (owner,)
    ).fetchall()
    return [_decode_bucket(raw) for (raw,) in rows]


def buckets_after(connection: apsw.Connection, name: str, limit: int) -> Sequence[Bucket]:
    """Buckets of all owners, by name, behind the one given."""
    rows = connection.execute(
        "SELECT record FROM buckets WHERE name>? ORDER BY name LIMIT ?", (name, limit)
    ).fetchall()
    return [_decode_bucket(raw) for (raw,) in rows]


def all_buckets(connection: apsw.Connection) -> Sequence[Bucket]:
    rows = connection.execute("SELECT record FROM buckets ORDER BY id").fetchall()
    return [_decode_bucket(raw) for (raw,) in rows]


def find_user(connection: apsw.Connection, user_id: UserId) -> User | None:
    return _one(connection, "SELECT record FROM users WHERE id=?", user_id, _decode_user)


def find_key(connection: apsw.Connection, access_key: str) -> tuple[User, AccessKey] | None:
    user = _one(
        connection,
        "SELECT users.record FROM keys JOIN users ON users.id = keys.user WHERE access_key=?",
        access_key,
        _decode_user,
    )
    if user is None:
        return None
    return next((user, key) for key in user.keys if key.access_key == access_key)


def all_users(connection: apsw.Connection) -> Sequence[User]:
    rows = connection.execute("SELECT record FROM users ORDER BY email").fetchall()
    return [_decode_user(raw) for (raw,) in rows]


def find_store_key(connection: apsw.Connection, name: str) -> StoreKey | None:
    return _one(connection, "SELECT record FROM store_keys WHERE name=?", name, _decode_store_key)


def all_store_keys(connection: apsw.Connection) -> Sequence[StoreKey]:
    rows = connection.execute("SELECT record FROM store_keys ORDER BY name").fetchall()
    return [_decode_store_key(raw) for (raw,) in rows]


def _one(
    connection: apsw.Connection, sql: str, value: str, decode: Callable[[bytes], _Item]
) -> _Item | None:
    rows = connection.execute(sql, (value,)).fetchall()
    return decode(rows[0][0]) if rows else None
