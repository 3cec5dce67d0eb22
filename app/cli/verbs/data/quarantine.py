"""`headwater quarantine`: list the events that broke their contract, and resolve them."""

from __future__ import annotations

import json
import sys

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format, Steps, print_object, print_rows

app = typer.Typer(
    name="quarantine",
    help="Events that broke their contract: list, replay or discard them.",
    no_args_is_help=True,
)
_WHAT = typer.Argument(
    None, help="Silver tables, or entries as `list` prints them.", autocompletion=tables
)
_ALL = typer.Option(False, "--all", help="Every table.")
_WAIT = typer.Option(120, "--wait", min=0, help="Seconds to wait for the silver job's answer.")


@app.command("list")
def list_entries(
    table: list[str] = typer.Argument(
        None, help="Silver tables; all when left out.", autocompletion=tables
    ),
    resolved: bool = typer.Option(False, "--resolved", help="Also those that are resolved."),
    limit: int = typer.Option(100, "--limit", min=1, help="The maximum number, newest first."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """List the events that broke their contract, the newest first.

    Examples:
      ./headwater quarantine list
      ./headwater quarantine list orders --resolved
    """
    require("s3")

    from app.environment.settings import load
    from app.lake.quarantine_access import COLUMNS, entries

    rows, total = entries(load(), table or [], resolved=resolved, limit=limit)
    print_rows(COLUMNS, rows, fmt)
    if total > len(rows):
        print(f"{total - len(rows)} more; see --limit", file=sys.stderr)


@app.command("show")
def show_entry(
    entry: list[str] = typer.Argument(help="TOPIC/PARTITION/OFFSET, as `list` prints it."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show entries whole, with their raw events (values are not masked in them).

    One entry is printed as an object, several as rows. Trino has the entries, and not the events.

    Examples:
      ./headwater quarantine show headwater.public.orders/0/17
    """
    require("s3")

    from app.cli.verb_audit import record_verb
    from app.environment.settings import load
    from app.lake.quarantine_access import entry_of

    settings = load()
    found = [entry_of(settings, name) for name in entry]
    record_verb(settings, "quarantine show", entry, [one["table_name"] for one in found])
    if len(found) == 1:
        print_object(found[0], fmt)
        return
    columns = list(dict.fromkeys(name for one in found for name in one))
    print_rows(columns, [[one.get(name) for name in columns] for one in found], fmt)


@app.command("replay")
def replay(
    what: list[str] = _WHAT,
    everything: bool = _ALL,
    values: list[str] = typer.Option(
        None, "--set", metavar="COLUMN=VALUE", help="Replay the one ENTRY with this value."
    ),
    nulls: list[str] = typer.Option(
        None, "--null", metavar="COLUMN", help="Replay the one ENTRY with NULL there."
    ),
    from_stdin: bool = typer.Option(
        False, "--set-from-stdin", help="Such values as a JSON object, column to text or null."
    ),
    wait: float = _WAIT,
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Merge entries into silver after a fix; a newer row is never overwritten.

    All open entries of a row go together. An entry can be replayed with other values (as Postgres prints them); it
    keeps its original event, and stores the new values beside it.

    Examples:
      ./headwater quarantine replay orders
      ./headwater quarantine replay headwater.public.orders/0/17 --set amount=12.50

    Exit codes:
      0  None of the entries stays open.
      1  Some stay open; stderr says why.
    """
    given = _values(values or [], nulls or [], sys.stdin.read() if from_stdin else "")
    _resolve("replay", what, everything, wait, fmt, given)


@app.command("discard")
def discard(
    what: list[str] = _WHAT,
    everything: bool = _ALL,
    wait: float = _WAIT,
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Give entries up: silver keeps the rows as they are until a newer event.

    Examples:
      ./headwater quarantine discard headwater.public.orders/0/17
    """
    _resolve("discard", what, everything, wait, fmt)


def _resolve(
    action: str,
    what: list[str] | None,
    everything: bool,
    wait: float,
    fmt: Format,
    values: dict[str, str | None] | None = None,
) -> None:
    from app.environment.settings import load
    from app.lake.quarantine_access import OUTCOME_COLUMNS, keepers_of, resolve

    if what or everything:
        require("s3")
        require(*keepers_of(load(), what or []))
    with Steps() as steps:
        steps.waiting(f"waiting for the job that keeps the entries to {action} them")
        rows = resolve(
            load(), action, what or [], everything=everything, wait_s=wait, values=values
        )
    print_rows(OUTCOME_COLUMNS, rows, fmt)
    raise typer.Exit(1 if any(row[2] == "open" for row in rows) else 0)


def _values(pairs: list[str], nulls: list[str], text: str) -> dict[str, str | None] | None:
    """Column -> text or None; None if nothing is given. Raises: HeadwaterError."""
    from app.errors import HeadwaterError

    found: dict[str, str | None] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise HeadwaterError(f"`{pair}` is not COLUMN=VALUE")
        found[name] = value
    found |= dict.fromkeys(nulls)
    if text:
        try:
            given = json.loads(text)
        except ValueError as error:
            raise HeadwaterError("the values on stdin are not JSON") from error
        if not isinstance(given, dict) or not all(
            value is None or isinstance(value, str) for value in given.values()
        ):
            raise HeadwaterError("the values on stdin are not a JSON object of strings and nulls")
        found |= given
    return found if pairs or nulls or text else None
