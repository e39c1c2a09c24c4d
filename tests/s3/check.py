"""What tests ask again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError


@contextmanager
def refused(code: str, status: int) -> Iterator[pytest.ExceptionInfo[ClientError]]:
    """The block must end in an S3 error of this code and status."""
    with pytest.raises(ClientError) as caught:
        yield caught
    response = caught.value.response
    told = (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"])
    assert told == (code, status)


def error_code(call: Callable[[], object]) -> str:
    """The S3 error code of a call, or "" when it went through."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""
