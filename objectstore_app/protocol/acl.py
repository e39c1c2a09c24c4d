"""Access control lists: canned names, the grants they stand for, and who may do what.

We keep an ACL as its canned name. What a client sends as XML is taken when it says the same as a
canned ACL; finer grants are refused clearly (sharing with single people has its own command). A
decision needs nothing but the names: no look-ups here. Source: AWS, "Access control list (ACL)
overview", "Canned ACL".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from .errors import S3Error

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"

PRIVATE = "private"


class Permission(Enum):
    READ = "READ"
    WRITE = "WRITE"
    READ_ACP = "READ_ACP"
    WRITE_ACP = "WRITE_ACP"
    FULL_CONTROL = "FULL_CONTROL"


@dataclass(frozen=True, slots=True)
class Grant:
    """One of `user` (an owner id) and `group` (a URI) is set."""

    permission: Permission
    user: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class AccessControlPolicy:
    owner: str
    grants: tuple[Grant, ...]


_GROUP_GRANTS: dict[str, tuple[Grant, ...]] = {
    PRIVATE: (),
    "public-read": (Grant(Permission.READ, group=ALL_USERS),),
    "public-read-write": (
        Grant(Permission.READ, group=ALL_USERS),
        Grant(Permission.WRITE, group=ALL_USERS),
    ),
    "authenticated-read": (Grant(Permission.READ, group=AUTHENTICATED_USERS),),
}
_BUCKET_OWNER_GRANTS = {
    "bucket-owner-read": Permission.READ,
    "bucket-owner-full-control": Permission.FULL_CONTROL,
}
BUCKET_ACLS = frozenset(_GROUP_GRANTS)
OBJECT_ACLS = BUCKET_ACLS | frozenset(_BUCKET_OWNER_GRANTS)
_KNOWN_ELSEWHERE = frozenset({"aws-exec-read", "log-delivery-write"})


def parse_canned(value: str | None, *, of_bucket: bool) -> str:
    """The canned ACL that x-amz-acl names; `private` where it is missing.

    On a bucket the bucket-owner-* names mean `private`, as S3 ignores them there.
    Raises: S3Error InvalidArgument, NotImplemented.
    """
    if value is None or value == "":
        return PRIVATE
    if value in _KNOWN_ELSEWHERE:
        raise S3Error("NotImplemented", f"The canned ACL {value} is not implemented by this store.")
    if value not in OBJECT_ACLS:
        raise S3Error("InvalidArgument", ArgumentName="x-amz-acl", ArgumentValue=value)
    return PRIVATE if of_bucket and value not in BUCKET_ACLS else value


def grants_of(canned: str, owner: str, bucket_owner: str = "") -> tuple[Grant, ...]:
    """The grants that a canned ACL stands for; `bucket_owner` matters for objects only."""
    own = Grant(Permission.FULL_CONTROL, user=owner)
    if canned in _BUCKET_OWNER_GRANTS:
        if not bucket_owner or bucket_owner == owner:
            return (own,)
        return (own, Grant(_BUCKET_OWNER_GRANTS[canned], user=bucket_owner))
    return (own, *_GROUP_GRANTS[canned])


def allows(
    canned: str,
    permission: Permission,
    *,
    owner: str,
    requester: str | None,
    bucket_owner: str = "",
) -> bool:
    """Whether the ACL lets `requester` (None: anonymous) have one of the simple permissions."""
    if requester is not None and requester == owner:
        return True
    for grant in grants_of(canned, owner, bucket_owner)[1:]:
        if grant.permission is not permission and grant.permission is not Permission.FULL_CONTROL:
            continue
        if grant.group == ALL_USERS:
            return True
        if requester is not None and (
            grant.group == AUTHENTICATED_USERS or grant.user == requester
        ):
            return True
    return False


def canned_of_policy(
    policy: AccessControlPolicy, *, owner: str, bucket_owner: str = "", of_bucket: bool
) -> str:
    """The canned ACL that says the same as the policy; order and repetition of grants don't matter.

    Raises: S3Error AccessDenied when the policy names another owner, NotImplemented when no canned
    ACL equals it.
    """
    if policy.owner and policy.owner != owner:
        raise S3Error("AccessDenied", "The owner of a resource cannot be changed with its ACL.")
    wanted = _expanded(policy.grants)
    for name in sorted(BUCKET_ACLS if of_bucket else OBJECT_ACLS):
        if name in _BUCKET_OWNER_GRANTS and bucket_owner in ("", owner):
            continue
        if _expanded(grants_of(name, owner, bucket_owner)) == wanted:
            return name
    raise S3Error(
        "NotImplemented",
        "This store takes access control lists that equal one of the canned ACLs "
        + ", ".join(sorted(BUCKET_ACLS if of_bucket else OBJECT_ACLS))
        + "; other grants are not implemented.",
    )


def _expanded(grants: Sequence[Grant]) -> frozenset[Grant]:
    simple = [permission for permission in Permission if permission != Permission.FULL_CONTROL]
    expanded: set[Grant] = set()
    for grant in grants:
        permissions = simple if grant.permission is Permission.FULL_CONTROL else [grant.permission]
        expanded.update(Grant(one, grant.user, grant.group) for one in permissions)
    return frozenset(expanded)
