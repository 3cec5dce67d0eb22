"""The checks of a serving database of one's own, asked as the user whom `serving_dsn` names."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.environment.dsn import without_secrets
from app.environment.settings import Settings
from app.profile_check.checked_part import OURS, Checked, told
from app.serving.serving_address import owner_dsn, serving_database
from app.serving.serving_database import ServingDatabase, short
from app.source.findings import MISSING, OK

PART = "serving"


def check_serving(settings: Settings) -> Iterator[Checked]:
    """Log in, do for a moment what a publication does, and look for the role that reads."""
    if settings.profile.serving_dsn is None:
        yield Checked(PART, "address", OK, OURS)
        return
    database = serving_database(owner_dsn(settings))
    try:
        with database.connected() as connection:
            yield Checked(PART, "log-in", OK, f"{shown(settings)} answers")
            yield from _rights(database, connection)
    except DBAPIError as error:
        todo = "check the host, the database, the user and the password in serving_dsn"
        yield told(PART, "log-in", MISSING, short(error)[:300], todo)


def shown(settings: Settings) -> str:
    """Return the address without password and options."""
    return without_secrets(owner_dsn(settings)).partition("?")[0]


def _rights(database: ServingDatabase, connection: Connection) -> Iterator[Checked]:
    try:
        database.try_rights(connection)
    except DBAPIError as error:
        seen = f"this user cannot publish: {short(error)}"
        yield told(PART, "rights", MISSING, seen[:300], database.grants(connection))
        return
    yield Checked(PART, "rights", OK, "tables may be made, renamed and dropped")
    status, seen, todo = database.readers(connection)
    yield told(PART, "readers", status, seen, todo)
