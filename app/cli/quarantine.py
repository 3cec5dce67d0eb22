"""`headwater quarantine`: look at the events that broke their contract, and resolve them."""

from __future__ import annotations

import json
import sys

import typer

from app.cli.needs import require
from app.cli.printing import FORMAT_OPTION, Format, print_object, print_rows

app = typer.Typer(
    name="quarantine",
    help="Events that broke their contract: look at them, replay or discard them.",
    no_args_is_help=True,
)
_WHAT = typer.Argument(None, help="Silver tables, or entries as `list` prints them.")
_ALL = typer.Option(False, "--all", help="Every table.")
_WAIT = typer.Option(120, "--wait", min=0, help="Seconds to wait for the silver job's answer.")


@app.command("list")
def list_entries(
    table: list[str] = typer.Argument(None, help="Silver tables; all when left out."),
    resolved: bool = typer.Option(False, "--resolved", help="Also those that are resolved."),
    limit: int = typer.Option(100, "--limit", min=1, help="At most so many, the newest."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """List the entries, the newest first."""
    from app.lake.quarantine import COLUMNS, entries
    from app.settings import load

    require("s3")
    rows, total = entries(load(), table or [], resolved=resolved, limit=limit)
    print_rows(COLUMNS, rows, fmt)
    if total > len(rows):
        print(f"{total - len(rows)} more; see --limit", file=sys.stderr)


@app.command("show")
def show_entry(
    entry: str = typer.Argument(help="TOPIC/PARTITION/OFFSET, as `list` prints it."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show one entry whole, with its raw event (values are not masked in it)."""
    from app.lake.quarantine import entry_of
    from app.settings import load

    require("s3")
    print_object(entry_of(load(), entry), fmt)


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

    All open entries of a row go together. Exit 0 only if none of them stays open. An entry can be
    replayed with other values (as Postgres prints them); it keeps its event as it came, and what
    it was replayed with beside it.
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
    """Give entries up: silver keeps the rows as they are until a newer event."""
    _resolve("discard", what, everything, wait, fmt)


def _resolve(
    action: str,
    what: list[str] | None,
    everything: bool,
    wait: float,
    fmt: Format,
    values: dict[str, str | None] | None = None,
) -> None:
    from app.lake.quarantine import OUTCOME_COLUMNS, keepers_of, resolve
    from app.settings import load

    if what or everything:
        require("s3")
        require(*keepers_of(load(), what or []))
    rows = resolve(load(), action, what or [], everything=everything, wait_s=wait, values=values)
    print_rows(OUTCOME_COLUMNS, rows, fmt)
    raise typer.Exit(1 if any(row[2] == "open" for row in rows) else 0)


def _values(pairs: list[str], nulls: list[str], text: str) -> dict[str, str | None] | None:
    """Column -> text or None; None where nothing is given. Raises: HeadwaterError."""
    from app.errors import HeadwaterError

    found: dict[str, str | None] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise HeadwaterError(f"`{pair}` is no COLUMN=VALUE")
        found[name] = value
    found |= dict.fromkeys(nulls)
    if text:
        try:
            given = json.loads(text)
        except ValueError as error:
            raise HeadwaterError("the values on stdin are no JSON") from error
        if not isinstance(given, dict) or not all(
            value is None or isinstance(value, str) for value in given.values()
        ):
            raise HeadwaterError("the values on stdin are no object of texts and nulls")
        found |= given
    return found if pairs or nulls or text else None
