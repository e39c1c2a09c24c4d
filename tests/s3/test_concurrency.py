"""Many requests at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mypy_boto3_s3 import S3Client

from .check import error_code


def at_once(count: int, call: Callable[[int], object]) -> list[str]:
    """The error code of each of `count` simultaneous calls."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: error_code(lambda: call(number)), range(count)))


def test_if_none_match_race_has_one_winner(s3: S3Client, bucket: str) -> None:
    for round_number in range(5):
        key = f"k{round_number}"
        results = at_once(
            8,
            lambda n, key=key: s3.put_object(
                Bucket=bucket, Key=key, Body=str(n).encode(), IfNoneMatch="*"
            ),
        )
        assert results.count("") == 1
        assert set(results) <= {"", "PreconditionFailed", "ConditionalRequestConflict"}
        winner = results.index("")
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == str(winner).encode()


def test_if_match_race_has_one_winner(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"start")["ETag"]
    results = at_once(
        8, lambda n: s3.put_object(Bucket=bucket, Key="k", Body=str(n).encode(), IfMatch=etag)
    )
    assert results.count("") == 1


def test_create_bucket_race_between_owners_has_one_winner(s3: S3Client, alt: S3Client) -> None:
    name = "t-race-between-owners"
    clients = [s3, alt] * 4
    results = at_once(8, lambda n: clients[n].create_bucket(Bucket=name))
    owners = {n % 2 for n, code in enumerate(results) if code == ""}
    assert len(owners) == 1
    clients[owners.pop()].delete_bucket(Bucket=name)


def test_readers_never_see_a_mixture_while_a_key_is_overwritten(s3: S3Client, bucket: str) -> None:
    size = 300_000
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(size))

    def work(number: int) -> None:
        if number % 2:
            for value in range(10):
                s3.put_object(Bucket=bucket, Key="k", Body=bytes([number * 10 + value]) * size)
        else:
            for _ in range(20):
                body = s3.get_object(Bucket=bucket, Key="k")["Body"].read()
                assert len(body) == size
                assert len(set(body)) == 1

    assert at_once(6, work) == [""] * 6


def test_a_put_is_visible_at_once_to_every_connection(s3: S3Client, bucket: str) -> None:
    def work(number: int) -> None:
        for turn in range(10):
            key = f"{number}/{turn}"
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
            listed = s3.list_objects_v2(Bucket=bucket, Prefix=key)
            assert listed["KeyCount"] == 1
            s3.delete_object(Bucket=bucket, Key=key)
            assert s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 0

    assert at_once(8, work) == [""] * 8
