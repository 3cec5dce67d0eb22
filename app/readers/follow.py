"""Follows a table: the part that both Python readers share, whichever library opens the files.

1. Begin at `--from`, else after the version in the state, else with the rows of the newest version.
2. Print the changes of each version, the versions in order; then keep the last one as the state.
3. End when there is no newer version and the time is over, or when `--rows-max` is reached: always at a version's
end, so that the next run continues at a version's start. A run that was killed before
   it kept a version prints that version again.
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
from app.readers.reader_lines import Change, State
from app.readers.reader_options import Options, parse
from app.readers.runs import Run

# The most versions that are printed again after a reader was killed.
VERSIONS_AT_ONCE = 20
POLL_S = 1.0
FEED = "delta.enableChangeDataFeed"


class Table(Protocol):
    """A Delta table as one library reads it. All methods may raise HeadwaterError."""

    def newest(self) -> int:
        """Return the newest version."""
        ...

    def rows(self, version: int) -> Iterator[Change]:
        """Yield the rows of a version, each as a `read`."""
        ...

    def changes(self, first: int, last: int) -> Iterator[Change]:
        """Yield the changes of these versions, both included, in the order of versions."""
        ...


@dataclass
class Progress:
    """What a run has printed: lines, and the last version that is complete."""

    lines: int = 0
    version: int | None = None


def follow(
    table: Table,
    options: Options,
    out: IO[str],
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Print new versions until the time or `--rows-max` is reached; `stop` ends it at a version's end.

    Raises: HeadwaterError.
    """
    progress, state = Progress(), State(options.state, options.table)
    deadline = clock() + options.seconds
    next_version = state.next()
    if options.first is not None:
        next_version = options.first
    if next_version is None:
        version = table.newest()
        _print_rows(table, options, out, progress, version, stop)
        if progress.version is None:
            return progress  # cut off: no version is complete, so there is nothing to continue from
        state.keep(version)
        next_version = version + 1
    while not stop.is_set():
        newest = table.newest()
        if next_version > newest + 1:
            raise HeadwaterError(
                f"{options.table} has no version {next_version}",
                detail=f"its newest one is {newest}",
                hint="the table was made again: remove the state, or give a lower --from",
            )
        while next_version <= newest and not stop.is_set():
            last = min(newest, next_version + VERSIONS_AT_ONCE - 1)
            whole = _print_changes(table, options, out, progress, next_version, last)
            state.keep(whole)
            progress.version, next_version = whole, whole + 1
            if progress.lines >= options.rows_max and whole < newest:
                return progress
        left = deadline - clock()
        if left <= 0 or progress.lines >= options.rows_max:
            break
        stop.wait(min(POLL_S, left))
    return progress


def _print_rows(
    table: Table,
    options: Options,
    out: IO[str],
    progress: Progress,
    version: int,
    stop: threading.Event,
) -> None:
    for row in table.rows(version):
        if stop.is_set():
            return
        if progress.lines == options.rows_max:
            if options.state is not None:
                raise HeadwaterError(
                    f"{options.table} has more than {options.rows_max} rows",
                    detail="a state needs all of the rows, so none was written",
                    hint="raise --rows-max, or begin with --from VERSION",
                )
            return
        out.write(row.line() + "\n")
        progress.lines += 1
    out.flush()
    progress.version = version


def _print_changes(
    table: Table, options: Options, out: IO[str], progress: Progress, first: int, last: int
) -> int:
    """Print changes. Returns: the last version that was printed completely."""
    current = first
    for change in table.changes(first, last):
        if change.version != current:
            if progress.lines >= options.rows_max:
                out.flush()
                return change.version - 1
            current = change.version
        out.write(change.line() + "\n")
        progress.lines += 1
    out.flush()
    return last


def feed_error(table: str, version: int) -> HeadwaterError:
    """Make the error for a version at which the table's change data feed was off."""
    name = table.rpartition("/")[2]
    return HeadwaterError(
        f"{table} has no change data feed at version {version}",
        detail=f"its property {FEED} was not true then",
        hint=f'switch it on: change_data_feed = "{name}" in a profile, `./headwater down`, then '
        "`./headwater up --profile FILE`; if it is on by now, start again without --from and state",
    )


def gone_error(table: str, version: int, observed: object) -> HeadwaterError:
    """Make the error for a version that cannot be read any more."""
    return HeadwaterError(
        f"{table}: version {version} is not there",
        detail=str(observed),
        hint="all versions stay for silver_retention_minutes (15), then some: start again without "
        "--from and state, follow more often, or raise that setting",
    )


def run(
    service: str,
    open_table: Callable[[Options], Table],
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Run a reader's whole process: options, the run's own records, one message on a failure."""
    try:
        options = parse(service, sys.argv[1:] if arguments is None else arguments, environment)
        own_run = Run(service, environment)
    except HeadwaterError as error:
        print(str(error), file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with closing(own_run):
        own_run.state("started", table=options.table, first=options.first)
        try:
            progress = follow(open_table(options), options, sys.stdout, stop)
        except BrokenPipeError:
            # The program that reads the lines has closed the pipe (`| head`); Python must not print
            # an error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            own_run.state("ended", table=options.table, reason="nobody reads the output")
            return 141
        except HeadwaterError as error:
            own_run.log("ERROR", str(error))
            own_run.state("failed", error=error.message, table=options.table)
            return 1
        except Exception as error:
            own_run.state("failed", error=type(error).__name__, table=options.table)
            raise
        own_run.log(
            "INFO", f"{progress.lines} lines of {options.table}, to version {progress.version}"
        )
        own_run.state("ended", table=options.table, lines=progress.lines, version=progress.version)
    return 0
