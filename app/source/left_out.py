"""Reports tables and columns that are not captured, because of a name or the profile's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.source.database import address_of, connect
from app.source.facts import Facts
from app.source.findings import MISSING, NOTE, Finding, Fix
from app.source.shared_names import shared_names
from app.source.source_tables import Names, SourceTable, source_tables
from spark_streaming.capture_choice import Choice
from spark_streaming.contract.names import Collision


def left_out_messages(settings: Settings) -> list[str]:
    """Return one line for each table whose name clashes, or whose columns differ in case only.

    Where the source does not answer, the only line says so.
    """
    try:
        with connect(settings.capture_dsn, application="headwater status") as connection:
            role = address_of(settings.capture_dsn).user
            publication, choice = Names.of(settings).publication, Choice.of(settings.profile)
            found = source_tables(connection, role, publication, choice)
            tables = [table for table in found if table.chosen]
    except (HeadwaterError, psycopg.Error) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return [f"it is not known which tables are left out: {first}"]
    # A table that is captured already stops the connector instead: leaving it out would lose
    # changes.
    columns = [
        f"{table} {'halts the capture' if table.published else 'is left out'}: {reason}"
        for table in tables
        if table.twins and (reason := table.uncapturable())
    ]
    return columns + [
        f"{table} {_stands(table, found)}: it {found.reason}"
        for table, found in shared_names(tables).items()
    ]


def judge_choice(facts: Facts, place_of: Callable[[str], str]) -> Iterator[Finding]:
    """Judge the patterns of the profile: each must fit something, and none may fit a key's column.

    Once the source is captured, a pattern that fits nothing is only a note: tables come and go.

    Args:
        place_of: setting → the place where it is written, for messages.
    """
    for table in facts.tables:
        for column in table.excluded_key if table.chosen else ():
            pattern = facts.choice.naming(f"{table}.{column}")
            observed = f"`{pattern}` leaves out {table}.{column}, a column of a key"
            serious = table.published or facts.slot is None
            hint = "name the columns more closely, or leave out the table by table_exclude"
            yield _of_pattern(
                "column_exclude", MISSING if serious else NOTE, observed, hint, place_of
            )
    known = {(table.schema, table.name): table.columns for table in facts.tables}
    for setting, pattern in facts.choice.without_match(known):
        kind = "column" if setting == "column_exclude" else "table"
        observed = f"no {kind} of the source fits `{pattern}`"
        hint = f"correct it, or take it out; a {kind} that is still to come can be named later"
        status = MISSING if facts.slot is None else NOTE
        yield _of_pattern(setting, status, observed, hint, place_of)


def _of_pattern(
    setting: str, status: str, observed: str, hint: str, place_of: Callable[[str], str]
) -> Finding:
    text = f"{observed} (in {place_of(setting)})"
    return Finding(f"setting {setting}", status, text, (Fix(f"-- {hint}"),))


def _stands(table: SourceTable, found: Collision) -> str:
    return "is not merged" if table.published and not found.in_kafka else "is left out"
