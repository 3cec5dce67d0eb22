"""`headwater contract`: make contract files from the source's catalog, and check them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from app.cli.options import FORMAT_OPTION
from app.errors import HeadwaterError
from app.printing import Format, print_rows

if TYPE_CHECKING:
    from app.environment.settings import Settings
    from spark_streaming.contract.contract import Contract
    from spark_streaming.contract.contract_files import ContractFile, Problem

app = typer.Typer(
    name="contract",
    help="Contract files: checks and masks beyond the source's catalog.",
    no_args_is_help=True,
)


@app.command("init")
def init(
    table: list[str] = typer.Argument(None, help="TABLE or SCHEMA.TABLE; all when left out."),
    force: bool = typer.Option(False, "--force", help="Overwrite existing files."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Write contract files from the source's catalog, to be refined by hand.

    What the source enforces (CHECK, UNIQUE, foreign keys, enums) becomes a `warn` rule. Prints the
    files that were written.

    Examples:
      ./headwater contract init
      ./headwater contract init public.orders --force
    """
    from app.environment.settings import load
    from spark_streaming.capture_choice import Choice
    from spark_streaming.contract.contract_files import file_name
    from spark_streaming.contract.source_catalog import list_tables
    from spark_streaming.rules.contract_init import contract_text

    settings = load()
    folder = settings.contracts_dir
    rows = []
    with _source(settings) as connection:
        for schema, name in _named(list_tables(connection), table or []):
            path = folder / file_name(schema, name)
            if path.exists() and not force:
                rows.append((f"{schema}.{name}", str(path), "kept"))
                continue
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(
                contract_text(connection, schema, name, Choice.of(settings.profile)),
                encoding="utf-8",
            )
            rows.append((f"{schema}.{name}", str(path), "written"))
    print_rows(("table", "file", "outcome"), rows, fmt)
    if any(row[2] == "kept" for row in rows):
        print("files that are there are kept; --force writes over them", file=sys.stderr)


@app.command("check")
def check(
    offline: bool = typer.Option(
        False, "--offline", help="Without the source: names and types of columns are not checked."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Find every mistake in the contract files, with file, line and hint.

    Warns of columns without a description or a class, and of names that look personal.

    Examples:
      ./headwater contract check
      ./headwater contract check --offline

    Exit codes:
      0  There are no mistakes. 1 There is a mistake.
    """
    from app.environment.settings import load
    from spark_streaming.rules.contract_folder import check_files
    from spark_streaming.rules.meaning_gaps import gaps_of_file

    settings = load()
    folders = settings.contracts_folders
    if offline:
        right, problems = check_files(folders, None)
        gaps = [gap for file in right for gap in gaps_of_file(file, None, {})]
    else:
        with _source(settings) as connection:
            right, problems = check_files(folders, _catalog(connection, settings))
            gaps = _gaps(connection, settings, right)
    rows: list[tuple[Any, ...]] = [
        (str(p.file), p.line, verdict, p.message, p.hint)
        for verdict, some in (("wrong", problems), ("warning", gaps))
        for p in some
    ]
    rows += [(str(file.path), None, "right", None, None) for file in right]
    print_rows(("file", "line", "verdict", "problem", "hint"), rows, fmt)
    if not rows:
        print(f"there are no contract files in {_listed(folders)}", file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


class ExportFormat(str, Enum):
    """The formats of `contract export`."""

    ODCS = "odcs"


@app.command("export")
def export(
    table: str = typer.Argument(..., help="TABLE, SCHEMA.TABLE or a stream."),
    fmt: ExportFormat = typer.Option(
        ExportFormat.ODCS,
        "--format",
        "-F",
        help="`odcs`: Open Data Contract Standard 3.1, in YAML.",
    ),
) -> None:
    """Print the contract of a table or stream for other tools.

    Examples:
      ./headwater contract export orders --format odcs > orders.odcs.yaml
    """
    import yaml

    from app.catalog.odcs import odcs_of_stream, odcs_of_table
    from app.environment.settings import load
    from app.lake.lakehouse import Lakehouse
    from spark_streaming.contract.contract_files import ContractFileError
    from spark_streaming.contract.source_catalog import list_tables
    from spark_streaming.rules.contract_folder import ContractFolder
    from spark_streaming.schema.catalog_watch import read_comments
    from spark_streaming.streams.stream_contract import read_streams, stream_folders

    del fmt  # there is one
    settings = load()
    folders = settings.contracts_folders
    streams, _ = read_streams(stream_folders(os.pathsep.join(map(str, folders))))
    if table in streams:
        document = odcs_of_stream(streams[table])
    else:
        files = ContractFolder(folders)
        version_of = _versions(settings)
        with _source(settings) as connection:
            [(schema, name)] = _named(list_tables(connection), [table])
            contract = _catalog(connection, settings)(schema, name)
            comments = read_comments(connection).get((schema, name), {})
        try:
            content = files.content_of(schema, name)
        except ContractFileError as error:
            raise HeadwaterError(
                f"the contract file of {schema}.{name} is wrong", detail=str(error)
            ) from error
        contract = replace(
            contract.with_texts(files.texts_of(schema, name)),
            version=version_of(schema, name) or 1,
        )
        silver = Lakehouse(settings).names.of(schema, name)
        document = odcs_of_table(contract, content, comments, silver)
    print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")


@app.command("plan")
def plan_changes(
    ddl: str = typer.Option(
        None,
        "--ddl",
        help="Statements to try: ALTER, CREATE, DROP, TRUNCATE, COMMENT; several with `;`.",
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Print the effects of a change of the source's tables; change nothing.

    Without --ddl: compare the source's current tables with silver's contracts. With it
    the statements run in the source and are rolled back at once. They take their normal locks: an ALTER TABLE blocks
    all users of the table while it runs. It waits for its lock for at most one second, and runs for at most ten.
    Sequences that it moves stay moved.

    Examples:
      ./headwater contract plan
      ./headwater contract plan --ddl "ALTER TABLE orders DROP COLUMN note"
    """
    from app.catalog.ddl import checked_statements, try_statements
    from app.catalog.plan import PlannedChange, as_silver_reads, plan
    from app.catalog.views import read_views
    from app.environment.settings import ROOT, load
    from spark_streaming.capture_choice import Choice
    from spark_streaming.rules.contract_folder import ContractFolder

    settings = load()
    files = ContractFolder(settings.contracts_folders)
    if ddl is not None:
        tried = try_statements(
            settings.source_dsn, checked_statements(ddl), Choice.of(settings.profile)
        )
        effects = as_silver_reads(tried, files.texts_of, _versions(settings))
    else:
        effects = as_silver_reads(_against_source(settings), files.texts_of, lambda *_: None)
    planned = plan(
        effects, files.evolution_of, read_views(ROOT / "trino" / "views"), ROOT / "superset"
    )
    print_rows(PlannedChange.columns(), [change.row() for change in planned], fmt)
    if not planned:
        print("nothing would change", file=sys.stderr)


def _against_source(settings: Settings) -> list[Any]:
    """List each table with its newest contract in the lake and the one of the source now."""
    from app.catalog.ddl import Effect
    from app.lake.lakehouse import Lakehouse
    from spark_streaming.capture_choice import Choice
    from spark_streaming.contract.contract_store import ContractStore
    from spark_streaming.contract.source_catalog import list_tables

    store = ContractStore(Lakehouse(settings).lake, settings.capture_dsn)
    effects = []
    try:
        kept = set(store.tables())
    except OSError as error:
        raise HeadwaterError(
            "the contracts that silver follows cannot be read from the lake",
            detail=str(error),
            hint="`./headwater up` starts the object store; --ddl does without it",
        ) from error
    with _source(settings) as connection:
        contract_of = _catalog(connection, settings)
        chosen = Choice.of(settings.profile)
        listed = {table for table in list_tables(connection) if chosen.has(*table)}
        for schema, table in sorted({*kept, *listed}):
            before = store.latest(schema, table) if (schema, table) in kept else None
            effects.append(Effect((schema, table), before, contract_of(schema, table)))
    return effects


def _versions(settings: Settings) -> Callable[[str, str], int | None]:
    """Return a function: table → the contract version that silver follows; None without object store."""
    from app.lake.lakehouse import Lakehouse
    from spark_streaming.contract.contract_store import ContractStore

    store = ContractStore(Lakehouse(settings).lake, settings.capture_dsn)
    try:
        kept = set(store.tables())
    except OSError:
        print(
            "the object store is away: versions beside are named as of version 1", file=sys.stderr
        )
        kept = set()

    def version_of(schema: str, table: str) -> int | None:
        found = store.versions(schema, table, newest=1) if (schema, table) in kept else []
        return found[-1].version if found else None

    return version_of


def _gaps(connection: Any, settings: Settings, right: list[ContractFile]) -> list[Problem]:
    """List missing descriptions in valid files, and tables without a file whose columns look personal."""
    from spark_streaming.capture_choice import Choice
    from spark_streaming.contract.contract_files import file_name, find_files
    from spark_streaming.contract.source_catalog import list_tables
    from spark_streaming.rules.meaning_gaps import gaps_of_file, gaps_without_file
    from spark_streaming.schema.catalog_watch import read_comments

    contract_of, comments = _catalog(connection, settings), read_comments(connection)
    found: list[Problem] = []
    for file in right:
        source = (file.schema, file.table)
        found += gaps_of_file(file, contract_of(*source), comments.get(source, {}))
    with_file, _ = find_files(settings.contracts_folders)
    chosen = Choice.of(settings.profile)
    for source in list_tables(connection):
        if source not in with_file and chosen.has(*source):
            path = settings.contracts_dir / file_name(*source)
            found += gaps_without_file(contract_of(*source), path)
    return found


def _listed(folders: list[Path]) -> str:
    return ", ".join(map(str, folders))


def _source(settings: Settings) -> Any:
    """Open a read-only connection to the source, as the capture role."""
    import psycopg

    from spark_streaming.storage.connections import TCP_LIMITS

    try:
        connection = psycopg.connect(
            settings.capture_dsn,
            **{**TCP_LIMITS, "connect_timeout": 5},
            application_name="headwater contract",
        )
    except psycopg.Error as error:
        raise HeadwaterError(
            "the source's catalog cannot be read",
            detail=f"{type(error).__name__}: {str(error).strip()}",
            hint="`./headwater up` starts the source; `contract check --offline` does without it",
        ) from error
    connection.read_only = True
    return connection


def _catalog(connection: Any, settings: Settings) -> Any:
    from spark_streaming.capture_choice import Choice
    from spark_streaming.contract.source_catalog import read_contract

    choice = Choice.of(settings.profile)
    known: dict[tuple[str, str], Contract | None] = {}

    def contract_of(schema: str, table: str) -> Contract | None:
        if (schema, table) not in known:
            known[schema, table] = read_contract(connection, schema, table, choice=choice)
        return known[schema, table]

    return contract_of


def _named(tables: list[tuple[str, str]], wanted: list[str]) -> list[tuple[str, str]]:
    if not wanted:
        return tables
    by_name = {f"{schema}.{table}": (schema, table) for schema, table in tables}
    found = []
    for name in wanted:
        full = name if name in by_name else f"public.{name}"
        if full not in by_name:
            raise HeadwaterError(
                f"the source has no table `{name}`", hint=f"it has {', '.join(by_name) or 'none'}"
            )
        found.append(by_name[full])
    return found
