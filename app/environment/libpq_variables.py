"""libpq's environment variables (`PGHOST`, `PGPASSWORD`…), used only to complete the source's address.

The command also connects to the embedded databases, which `PGSSLMODE` or `PGSERVICE` of the user's
shell would break. So the variables are removed from the environment at the start, and put back only
while the address of a source is completed (`app/source/given_source.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

# All variables that libpq reads; a test compares them with the library's own list.
_NAMES = """
    APPNAME CHANNELBINDING CLIENTENCODING CONNECT_TIMEOUT DATABASE DATESTYLE GEQO GSSDELEGATION
    GSSENCMODE GSSLIB HOST HOSTADDR KRBSRVNAME LOADBALANCEHOSTS LOCALEDIR MAXPROTOCOLVERSION
    MINPROTOCOLVERSION OPTIONS PASSFILE PASSWORD PORT REALM REQUIREAUTH REQUIREPEER REQUIRESSL
    SERVICE SERVICEFILE SSLCERT SSLCERTMODE SSLCOMPRESSION SSLCRL SSLCRLDIR SSLKEY
    SSLMAXPROTOCOLVERSION SSLMINPROTOCOLVERSION SSLMODE SSLNEGOTIATION SSLROOTCERT SSLSNI
    SYSCONFDIR TARGETSESSIONATTRS TZ USER
"""
NAMES = frozenset(f"PG{name}" for name in _NAMES.split())
# Files in which libpq looks up passwords and services; these variables alone name no database.
FILES = frozenset(("PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR"))
# The variables that were removed from the environment.
GIVEN: dict[str, str] = {}


def remove_variables(environment: MutableMapping[str, str]) -> None:
    """Move libpq's variables from the environment to GIVEN."""
    GIVEN.update({name: environment.pop(name) for name in NAMES & set(environment)})


@contextmanager
def counting(variables: Mapping[str, str]) -> Iterator[None]:
    """Let libpq see exactly these of its variables while the block runs."""
    before = {name: os.environ.pop(name) for name in NAMES & set(os.environ)}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def home_file(name: str) -> Path:
    """Return a file of the user's home folder; if there is no home, a file that does not exist."""
    try:
        return Path.home() / name
    except RuntimeError:
        return Path("/nonexistent") / name


def password_places(variables: Mapping[str, str] | None = None) -> str:
    """Describe the places where libpq looked for a password, and the result, without secrets."""
    known = GIVEN if variables is None else variables
    path = Path(known.get("PGPASSFILE") or home_file(".pgpass"))
    state = "it has no line for this address" if path.is_file() else "not there"
    if path.is_file() and path.stat().st_mode & 0o077:
        state = "libpq ignores it, because others may read it: chmod 600"
    elif path.is_file() and not os.access(path, os.R_OK):
        state = "not readable"
    variable = "PGPASSWORD (not set)" if "PGPASSWORD" not in known else "PGPASSWORD"
    return f"the address, {variable}, {path} ({state})"
