"""The people who may query Trino: names, roles and hashes of passwords, and the files from which Trino reads them.

    access/users.json   name → role and hash; written by `./headwater users` only
    access/passwords    Trino's password file: the people, and the stack's own accounts
    access/groups       Trino's groups: role → names

All are 0600 and replaced at once. Trino reads its two files again within two seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import secrets
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from app.environment.settings import Settings, write_private
from app.environment.trino_accounts import ACCOUNTS, password_name
from app.errors import HeadwaterError

FOLDER, PEOPLE = "access", "users.json"
USER_NAME = re.compile(r"[a-z0-9][a-z0-9_.@-]{0,62}")
PASSWORD_LENGTH_MIN, PASSWORD_LENGTH_MAX = 12, 512
# A person's password can be guessed, a generated one cannot. Trino hashes again after each reading of its file.
ITERATIONS, GENERATED_ITERATIONS = 60_000, 1_000
SALT_BYTES = 16
_ALPHABET = string.ascii_letters + string.digits
# Superset's own two users, with their roles in Trino.
SUPERSET_USERS = {"admin": "engineer", "analyst": "analyst"}


@dataclass(frozen=True)
class User:
    """A person: the role, and the hash of the password as Trino's file has it."""

    role: str
    hash: str


class Users:
    """The people of one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home / FOLDER

    def listed(self) -> dict[str, User]:
        """Return the people by name, sorted."""
        try:
            found = json.loads((self._folder / PEOPLE).read_text())
        except FileNotFoundError:
            return {}
        return {name: User(**one) for name, one in sorted(found.items())}

    def add(self, name: str, role: str, password: str) -> None:
        """Add a person. Raises: HeadwaterError for an invalid or existing name."""
        check_name(name)
        check_password(password)
        with self._changing() as users:
            if name in users:
                raise HeadwaterError(
                    f"there is a user `{name}`",
                    hint=f"a new password: ./headwater users passwd {name}; another role: remove, then add",
                )
            same = [one for one in users if own_schema(one) == own_schema(name)]
            if same:
                raise HeadwaterError(
                    f"user `{same[0]}` has the schema `{own_schema(name)}` already",
                    hint="choose a name that differs in letters or digits",
                )
            users[name] = User(role, hashed(password))

    def remove(self, name: str) -> None:
        """Remove a person. Raises: HeadwaterError if there is none."""
        with self._changing() as users:
            _there(name, users)
            del users[name]

    def set_password(self, name: str, password: str) -> None:
        """Give a person another password. Raises: HeadwaterError if there is none."""
        check_password(password)
        with self._changing() as users:
            users[name] = User(_there(name, users).role, hashed(password))

    def write_files(self) -> None:
        """Write Trino's files; each start also does, because the secrets of accounts may be new."""
        people = self.listed()
        lines = [f"{name}:{user.hash}" for name, user in people.items()]
        for account in ACCOUNTS:
            secret = self._settings.secret(password_name(account))
            # The same secret has the same line: no salt is needed for 190 random bits.
            salt = hashlib.sha256(account.encode()).digest()[:SALT_BYTES]
            lines.append(f"{account}:{hashed(secret, GENERATED_ITERATIONS, salt)}")
        write_private(self._folder / "passwords", "\n".join(lines) + "\n")
        write_private(self._folder / "groups", group_lines(people))

    @contextmanager
    def _changing(self) -> Iterator[dict[str, User]]:
        """Let one command at a time change the people; the files follow."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._folder / ".lock", "w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            users = self.listed()
            yield users
            content = {name: asdict(user) for name, user in users.items()}
            write_private(self._folder / PEOPLE, json.dumps(content, indent=1))
            self.write_files()


def check_name(name: str) -> None:
    """Raise HeadwaterError for a name that a person cannot have."""
    if not USER_NAME.fullmatch(name):
        raise HeadwaterError(
            f"`{name}` cannot be a user's name",
            hint="lower-case letters, digits and `_.@-`, at most 63; the first is a letter or a digit",
        )
    if name in ACCOUNTS or name in SUPERSET_USERS:
        raise HeadwaterError(
            f"`{name}` is an account of the stack's own", hint="choose another name"
        )


def check_password(password: str) -> None:
    """Raise HeadwaterError for a password that is too short, or cannot be typed everywhere."""
    if not PASSWORD_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        raise HeadwaterError(
            f"the password has {len(password)} characters",
            hint=f"{PASSWORD_LENGTH_MIN} to {PASSWORD_LENGTH_MAX}; with --generate one is made",
        )
    if not (password.isascii() and password.isprintable()):
        raise HeadwaterError(
            "the password has other characters than ASCII's",
            hint="clients encode others in different ways when they sign in",
        )


def generated_password() -> str:
    """Return a password of 24 letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(24))


def hashed(password: str, iterations: int = ITERATIONS, salt: bytes | None = None) -> str:
    """Return the hash of a password as Trino's file takes it: PBKDF2, `iterations:salt:hash` in hex.

    Trino 476 computes it with HMAC-SHA-1.
    """
    salt = salt or secrets.token_bytes(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha1", password.encode(), salt, iterations, 32)
    return f"{iterations}:{salt.hex()}:{digest.hex()}"


def group_lines(people: Mapping[str, User]) -> str:
    """Return Trino's file of groups: a line for each role, with its people and Superset's users."""
    groups: dict[str, list[str]] = {}
    for name, role in [*SUPERSET_USERS.items(), *((n, user.role) for n, user in people.items())]:
        groups.setdefault(role, []).append(name)
    return "".join(f"{role}:{','.join(names)}\n" for role, names in sorted(groups.items()))


def own_schema(user: str) -> str:
    """Return the schema of a person's own tables and views."""
    return "own_" + re.sub(r"[^a-z0-9]", "_", user)


def _there(name: str, users: Mapping[str, User]) -> User:
    if name not in users:
        raise HeadwaterError(
            f"there is no user `{name}`", hint="see who there is: ./headwater users list"
        )
    return users[name]
