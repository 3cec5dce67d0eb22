"""The command `headwater rebuild`: one table after the other, each printed as a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from app.environment.settings import Settings, load
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.printing import Steps, print_rows
from app.rebuild.extra_tables import ExtraTables, is_name
from app.rebuild.moment import Moment, parse_until
from app.rebuild.moment_proof import Proof
from app.rebuild.moment_rebuild import MomentRebuild, exit_code, forget_unfinished
from app.rebuild.moment_search import await_moment
from app.rebuild.rebuild_guards import exclusive, named_failures
from app.rebuild.table_rebuild import RebuildCommand
from spark_streaming.batch.rebuild_state import RebuildStore
from spark_streaming.contract.lsn import lsn_text
from spark_streaming.reading.bronze import Bronze
from spark_streaming.tables.silver_table import row_count

COLUMNS = ("table", "events", "rows", "delta_version", "seconds")
MOMENT_COLUMNS = (
    "table",
    "name",
    "lsn",
    "committed_at",
    "events",
    "rows",
    "proof",
    "proved_by",
    "seconds",
)
Row = tuple[Any, ...]


def run_rebuild(tables: Sequence[str], fmt: str) -> None:
    """Rebuild silver tables; print a row for each on stdout and progress on stderr.

    If one table fails, the others are still built.
    Raises: HeadwaterError if a table is unknown or refused, bronze has gaps, the disk is too full,
    or
        the job does not swap the tables.
    """
    settings = load()

    def one(table: str, steps: Steps) -> Row:
        started = time.monotonic()
        steps.waiting(f"rebuild {table}: reading how far silver and bronze are")
        table = Lakehouse(settings).silver_name(table)
        command = RebuildCommand(settings, table, steps)
        with exclusive(settings, table):
            state = command.run()
        silver = Lakehouse(settings).silver(table)
        seconds = round(time.monotonic() - started, 1)
        return table, state.events, row_count(silver), silver.version(), seconds

    rows, errors = _each(tables, one, "")
    print_rows(COLUMNS, rows, fmt)
    _raise(errors, tables)


def run_until(tables: Sequence[str], until: str, name: str | None, fmt: str) -> int:
    """Build tables as of a moment beside the current ones; print a row for each, with its proof.

    Args:
        name: the new table's name; None: `<table>__at_<LSN in bytes>`.
    Returns: the exit code: 0 all proved equal, 1 one differs, 3 one could not be proved.
    Raises: HeadwaterError as `run_rebuild`, and for a moment that bronze does not reach.
    """
    wanted = parse_until(until)
    if name is not None and len(tables) > 1:
        raise HeadwaterError("`--as` names one table", hint="leave it out: each gets its own name")
    settings = load()
    proofs: list[Proof] = []
    moment: Moment | None = None

    def one(table: str, steps: Steps) -> Row:
        nonlocal moment
        started = time.monotonic()
        steps.waiting(f"rebuild {table}: searching bronze for {wanted.text}")
        lake = Lakehouse(settings)
        table = lake.silver_name(table)
        if moment is None:
            bronze = Bronze(lake.bronze_files())
            moment = await_moment(bronze, settings.topic_prefix, wanted, steps.waiting)
        own_name = name or f"{table}__at_{moment.lsn}"
        command = MomentRebuild(settings, table, own_name, moment, steps)
        with exclusive(settings, own_name):
            built = command.run()
        proofs.append(built.proof)
        seconds = round(time.monotonic() - started, 1)
        place = lsn_text(moment.lsn), moment.committed_at.isoformat()
        shown = built.proof.verdict, built.proof.by
        return table, built.name, *place, built.events, built.rows, *shown, seconds

    again = f" --until {until}" + (f" --as {name}" if name else "")
    rows, errors = _each(tables, one, again)
    print_rows(MOMENT_COLUMNS, rows, fmt)
    _raise(errors, tables)
    return exit_code(proofs)


def run_drop(name: str) -> None:
    """Remove a table that `run_until` has made, or its unfinished build.

    Raises: HeadwaterError if there is neither.
    """
    settings: Settings = load()
    with Steps() as steps, named_failures(), exclusive(settings, name):
        lake = Lakehouse(settings)
        unfinished = is_name(name) and forget_unfinished(RebuildStore(lake.lake), name)
        tables = ExtraTables(lake)
        if name in tables.names() or not unfinished:
            tables.drop(name)
        steps.note(f"silver.{name} is gone")


def _each(
    tables: Sequence[str], one: Callable[[str, Steps], Row], again: str
) -> tuple[list[Row], list[HeadwaterError]]:
    """Return the rows of the tables that were built, and the errors of the others."""
    rows: list[Row] = []
    errors: list[HeadwaterError] = []
    with Steps() as steps:
        for number, table in enumerate(dict.fromkeys(tables)):
            try:
                with named_failures():
                    rows.append(one(table, steps))
            except HeadwaterError as error:
                errors.append(error)
                if len(tables) > 1:
                    steps.note(f"rebuild {table} failed: {error}")
            except KeyboardInterrupt:
                steps.rest()
                left = " ".join(list(dict.fromkeys(tables))[number:])
                steps.note(f"hint: `./headwater rebuild {left}{again}` continues here")
                raise
            finally:
                steps.rest()
    return rows, errors


def _raise(errors: Sequence[HeadwaterError], tables: Sequence[str]) -> None:
    if len(tables) == 1 and errors:
        raise errors[0]
    if errors:
        raise HeadwaterError(
            f"{len(errors)} of {len(tables)} tables were not built",
            detail="\n".join(str(error) for error in errors),
        )
