"""Following a table: what both Python readers do, whichever library opens the files.

1. Begin at `--from`, else behind the state, else with the rows of the newest version.
2. Print the changes of each version, the versions in order; then keep the last one as the state.
3. End when there is no newer version and the time is over, or when `--rows-max` is reached: never
   within a version, so that a run goes on at a version's start. What was printed and not kept (the
   process was killed) is printed again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Protocol

from app.errors import HeadwaterError
from app.readers.lines import Change, State
from app.readers.options import Options, parse
from app.readers.runs import Run

# Printed again at most, when a reader is killed.
VERSIONS_AT_ONCE = 20
POLL_S = 1.0
FEED = "delta.enableChangeDataFeed"


class Table(Protocol):
    """A Delta table as one library reads it. All methods raise HeadwaterError."""

    def newest(self) -> int:
        """The newest version there is now."""
        ...

    def rows(self, version: int) -> Iterator[Change]:
        """The rows of a version, each as a `read`."""
        ...

    def changes(self, first: int, last: int) -> Iterator[Change]:
        """The changes of these versions, both included, the versions in order."""
        ...


@dataclass
class Told:
    """What a run did: lines printed, and the last version that was printed whole."""

    lines: int = 0
    version: int | None = None


def follow(
    table: Table,
    options: Options,
    out: IO[str],
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Told:
    """Print what is new, until there is no more to print; `stop` ends it at a version's end.

    Raises: HeadwaterError.
    """
    told, state = Told(), State(options.state, options.table)
    deadline = clock() + options.seconds
    following = state.next()
    if options.first is not None:
        following = options.first
    if following is None:
        version = table.newest()
        _print_rows(table, options, out, told, version, stop)
        if told.version is None:
            return told  # cut: there is no whole version to go on behind
        state.keep(version)
        following = version + 1
    while not stop.is_set():
        newest = table.newest()
        if following > newest + 1:
            raise HeadwaterError(
                f"{options.table} has no version {following}",
                detail=f"its newest one is {newest}",
                hint="the table was made again: remove the state, or give a lower --from",
            )
        while following <= newest and not stop.is_set():
            last = min(newest, following + VERSIONS_AT_ONCE - 1)
            whole = _print_changes(table, options, out, told, following, last)
            state.keep(whole)
            told.version, following = whole, whole + 1
            if told.lines >= options.rows_max and whole < newest:
                return told
        left = deadline - clock()
        if left <= 0 or told.lines >= options.rows_max:
            break
        stop.wait(min(POLL_S, left))
    return told


def _print_rows(
    table: Table,
    options: Options,
    out: IO[str],
    told: Told,
    version: int,
    stop: threading.Event,
) -> None:
    for row in table.rows(version):
        if stop.is_set():
            return
        if told.lines == options.rows_max:
            if options.state is not None:
                raise HeadwaterError(
                    f"{options.table} has more than {options.rows_max} rows",
                    detail="a state needs all of them, and none is kept",
                    hint="raise --rows-max, or begin with --from VERSION",
                )
            return
        out.write(row.line() + "\n")
        told.lines += 1
    out.flush()
    told.version = version


def _print_changes(
    table: Table, options: Options, out: IO[str], told: Told, first: int, last: int
) -> int:
    """Returns: the last version that was printed whole."""
    current = first
    for change in table.changes(first, last):
        if change.version != current:
            if told.lines >= options.rows_max:
                out.flush()
                return change.version - 1
            current = change.version
        out.write(change.line() + "\n")
        told.lines += 1
    out.flush()
    return last


def feed_error(table: str, version: int) -> HeadwaterError:
    """Told where a table's change data feed was off at a version that was asked for."""
    name = table.rpartition("/")[2]
    return HeadwaterError(
        f"{table} has no change data feed at version {version}",
        detail=f"its property {FEED} was not true then",
        hint=f'switch it on: change_data_feed = "{name}" in a profile, `./headwater down`, then '
        "`./headwater up --profile FILE`; if it is on by now, begin anew: without --from and state",
    )


def gone_error(table: str, version: int, observed: object) -> HeadwaterError:
    """Told where a version cannot be read any more."""
    return HeadwaterError(
        f"{table}: version {version} is not there",
        detail=str(observed),
        hint="old versions are removed after silver_retention_minutes (15): begin anew without "
        "--from and state, follow more often, or raise that setting",
    )


def run(
    service: str,
    open_table: Callable[[Options], Table],
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """A reader's whole process: options, the run's own records, and one message where it fails."""
    try:
        options = parse(service, sys.argv[1:] if arguments is None else arguments, environment)
        told_of = Run(service, environment)
    except HeadwaterError as error:
        print(str(error), file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with closing(told_of):
        told_of.state("started", table=options.table, first=options.first)
        try:
            told = follow(open_table(options), options, sys.stdout, stop)
        except BrokenPipeError:
            # Whoever reads the lines has seen enough (`| head`); Python must not complain of it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            told_of.state("ended", table=options.table, reason="nobody reads the output")
            return 141
        except HeadwaterError as error:
            told_of.log("ERROR", str(error))
            told_of.state("failed", error=error.message, table=options.table)
            return 1
        except Exception as error:
            told_of.state("failed", error=type(error).__name__, table=options.table)
            raise
        told_of.log("INFO", f"{told.lines} lines of {options.table}, to version {told.version}")
        told_of.state("ended", table=options.table, lines=told.lines, version=told.version)
    return 0
