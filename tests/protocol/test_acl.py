"""Canned ACLs: decisions, grants and back."""

from __future__ import annotations

import pytest

from objectstore_app.protocol.acl import (
    ALL_USERS,
    BUCKET_ACLS,
    OBJECT_ACLS,
    AccessControlPolicy,
    Grant,
    Permission,
    allows,
    canned_of_policy,
    grants_of,
    parse_canned,
)
from objectstore_app.protocol.errors import S3Error

R, W = Permission.READ, Permission.WRITE
ACP = (Permission.READ_ACP, Permission.WRITE_ACP)


@pytest.mark.parametrize(
    ("canned", "anonymous", "other", "bucket_owner"),
    [
        ("private", "", "", ""),
        ("public-read", "R", "R", "R"),
        ("public-read-write", "RW", "RW", "RW"),
        ("authenticated-read", "", "R", "R"),
        ("bucket-owner-read", "", "", "R"),
        ("bucket-owner-full-control", "", "", "RWP"),
    ],
)
def test_who_may_do_what(canned: str, anonymous: str, other: str, bucket_owner: str) -> None:
    for requester, allowed in ((None, anonymous), ("other", other), ("landlord", bucket_owner)):
        for permission, letter in ((R, "R"), (W, "W"), (ACP[0], "P"), (ACP[1], "P")):
            assert allows(
                canned, permission, owner="me", requester=requester, bucket_owner="landlord"
            ) is (letter in allowed), (requester, permission)
    for permission in (R, W, *ACP):
        assert allows(canned, permission, owner="me", requester="me")


def test_nobody_is_the_owner_of_what_has_none() -> None:
    assert not allows("private", R, owner="", requester=None)


@pytest.mark.parametrize("canned", sorted(OBJECT_ACLS))
def test_grants_lead_back_to_the_canned_acl(canned: str) -> None:
    grants = grants_of(canned, "me", "landlord")
    for shuffled in (grants, grants[::-1], grants + grants):
        policy = AccessControlPolicy("me", shuffled)
        assert canned_of_policy(policy, owner="me", bucket_owner="landlord", of_bucket=False) == (
            canned
        )


def test_full_control_may_be_spelled_out() -> None:
    single = tuple(Grant(p, user="me") for p in Permission if p is not Permission.FULL_CONTROL)
    policy = AccessControlPolicy("", (*single, Grant(R, group=ALL_USERS)))
    assert canned_of_policy(policy, owner="me", of_bucket=True) == "public-read"


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (AccessControlPolicy("you", ()), "AccessDenied"),
        (AccessControlPolicy("me", ()), "NotImplemented"),
        (AccessControlPolicy("me", (Grant(R, user="you"),)), "NotImplemented"),
        (
            AccessControlPolicy("me", (*grants_of("private", "me"), Grant(R, user="you"))),
            "NotImplemented",
        ),
    ],
)
def test_other_policies_are_refused(policy: AccessControlPolicy, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        canned_of_policy(policy, owner="me", of_bucket=True)
    assert caught.value.code == code


def test_canned_names() -> None:
    assert parse_canned(None, of_bucket=True) == "private"
    assert parse_canned("public-read", of_bucket=True) == "public-read"
    assert parse_canned("bucket-owner-read", of_bucket=True) == "private"
    assert parse_canned("bucket-owner-read", of_bucket=False) == "bucket-owner-read"
    assert BUCKET_ACLS < OBJECT_ACLS
    for value, code in (("public", "InvalidArgument"), ("aws-exec-read", "NotImplemented")):
        with pytest.raises(S3Error) as caught:
            parse_canned(value, of_bucket=False)
        assert caught.value.code == code
