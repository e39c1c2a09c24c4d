"""New people: what is made, what is checked."""

from __future__ import annotations

import csv
import io

import pytest

from objectstore_app.iam.errors import InvalidIdentityError
from objectstore_app.iam.identity import checked_email, is_owner_id, keys_csv, new_identity


def test_new_identity_has_s3_shaped_random_values() -> None:
    made = [new_identity("a@example.com") for _ in range(50)]
    assert len({one.id for one in made} | {one.access_key for one in made}) == 100
    for one in made:
        assert is_owner_id(one.id)
        assert (len(one.access_key), len(one.secret_key)) == (20, 40)
        assert one.name == "a@example.com"


def test_given_keys_and_name_are_taken() -> None:
    made = new_identity("a@b.c", "Ann Ä", access_key="ACCESS", secret_key="secret/+=-key")
    assert (made.name, made.access_key, made.secret_key) == ("Ann Ä", "ACCESS", "secret/+=-key")


@pytest.mark.parametrize(
    "keys",
    [
        {"access_key": "ACCESS"},
        {"secret_key": "secret-key"},
        {"access_key": "AB", "secret_key": "secret-key"},
        {"access_key": "with blank", "secret_key": "secret-key"},
        {"access_key": "slash/es", "secret_key": "secret-key"},
        {"access_key": "ACCESS", "secret_key": "short"},
        {"access_key": "ACCESS", "secret_key": "with a blank"},
        {"access_key": "ACCESS", "secret_key": "x" * 129},
    ],
)
def test_half_given_or_malformed_keys_are_refused(keys: dict[str, str]) -> None:
    with pytest.raises(InvalidIdentityError):
        new_identity("a@b.c", **keys)


def test_error_never_shows_the_secret() -> None:
    with pytest.raises(InvalidIdentityError) as caught:
        new_identity("a@b.c", access_key="ACCESS", secret_key="my secret value")
    assert "my secret" not in str(caught.value)


@pytest.mark.parametrize("name", [" ", "a\nb", "\x00", "x" * 129])
def test_unprintable_or_long_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidIdentityError):
        new_identity("a@b.c", name)


def test_domain_of_an_address_is_lower_cased_and_blanks_dropped() -> None:
    assert checked_email(" First.Last+tag@Example.COM ") == "First.Last+tag@example.com"


def test_csv_survives_commas_and_quotes() -> None:
    made = new_identity("a@b.c", 'Ann, "the" Admin', access_key="ACCESS", secret_key="secret-key")
    [row] = csv.DictReader(io.StringIO(keys_csv(made)))
    assert row == {
        "User Name": 'Ann, "the" Admin',
        "Email": "a@b.c",
        "Access Key": "ACCESS",
        "Secret Key": "secret-key",
    }
