"""People, the hashes of their passwords, and the files that Trino reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from app.access.accounts import Users, check_name, check_password, hashed, own_schema
from app.environment.profile import Profile
from app.environment.settings import Settings
from app.environment.trino_accounts import ACCOUNTS
from app.errors import HeadwaterError

PASSWORD = "a password of ana"


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return Users(Settings(tmp_path, Profile.model_validate({"access": "signed"})))


def test_trinos_files_have_the_people_and_each_account_and_nobody_else_may_read_them(
    users: Users, tmp_path: Path
) -> None:
    users.add("ana", "analyst", PASSWORD)
    lines = dict(
        line.split(":", 1) for line in (tmp_path / "access/passwords").read_text().splitlines()
    )
    assert lines.keys() == {"ana", *ACCOUNTS}
    assert (tmp_path / "access/groups").read_text() == "analyst:analyst,ana\nengineer:admin\n"
    for name in ("passwords", "groups", "users.json"):
        assert (tmp_path / "access" / name).stat().st_mode & 0o077 == 0
        assert PASSWORD not in (tmp_path / "access" / name).read_text()


def test_a_hash_has_iterations_salt_and_the_key_in_hex() -> None:
    iterations, salt, key = hashed(PASSWORD).split(":")
    assert int(iterations) >= 10_000
    again = hashlib.pbkdf2_hmac(
        "sha1", PASSWORD.encode(), bytes.fromhex(salt), int(iterations), len(key) // 2
    )
    assert again.hex() == key


def test_a_person_is_added_once_gets_another_password_and_goes(users: Users) -> None:
    users.add("ana", "analyst", PASSWORD)
    before = users.listed()["ana"].hash
    with pytest.raises(HeadwaterError, match="there is a user `ana`"):
        users.add("ana", "engineer", PASSWORD)
    users.set_password("ana", "another password")
    assert users.listed()["ana"].hash != before
    assert users.listed()["ana"].role == "analyst"
    users.remove("ana")
    assert users.listed() == {}
    with pytest.raises(HeadwaterError, match="there is no user `ana`"):
        users.remove("ana")


def test_two_people_do_not_share_a_schema(users: Users) -> None:
    users.add("ana.b", "analyst", PASSWORD)
    with pytest.raises(HeadwaterError, match="has the schema `own_ana_b`"):
        users.add("ana_b", "analyst", PASSWORD)
    assert own_schema("ana@example.org") == "own_ana_example_org"


@pytest.mark.parametrize("name", ["", "Ana", ".*", "ana|registrar", "a b", "registrar", "admin"])
def test_a_name_that_is_a_pattern_or_an_account_is_refused(name: str) -> None:
    with pytest.raises(HeadwaterError):
        check_name(name)


@pytest.mark.parametrize("password", ["short", "x" * 513, "a password with ü", "two\nlines of it"])
def test_a_password_that_is_short_or_cannot_be_typed_everywhere_is_refused(password: str) -> None:
    with pytest.raises(HeadwaterError) as caught:
        check_password(password)
    assert password not in str(caught.value)
