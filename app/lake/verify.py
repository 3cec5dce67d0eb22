"""Prove that silver equals the source, row by row and column by column, while writes go on.

A table is compared in parts (ranges of its key), each at one instant of the source (`instant`),
by sums of digests; a part that differs is drilled into, down to rows and columns (`compare`).
As many parts as fit into INSTANT_S share an instant: silver's old versions and the source's old
rows are kept for a while only. A part that differs is looked at again at a fresh instant, at
most ROUNDS times; only what still differs then is reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from deltalake.exceptions import DeltaError
from kafka.errors import KafkaError

from app.cli.printing import Steps, print_rows
from app.errors import HeadwaterError
from app.lake.instant import Instant, SourceName, await_complete, open_instant
from app.lake.lakehouse import Lakehouse
from app.lake.ranges import size_of
from app.lake.streams import declared_streams, left_out, stream_tables
from app.lake.verdict import COLUMNS, Verdict
from app.lake.verify_progress import Progress
from app.lake.verify_state import FOLDER, RunState, StateFile
from app.lake.verify_work import Sample, Work
from app.settings import Settings, load
from spark_streaming.naming import silver_table
from spark_streaming.stopped import FAILING, RESUMING, STOPPED

ROUNDS = 3
PART_ROWS = 500_000
# Well within the time for which silver keeps old versions (`silver_retention_minutes`).
INSTANT_S = 240.0


@dataclass(frozen=True)
class Options:
    """How to verify.

    Args:
        sample: look at a part of each table only.
        part_rows: about how many rows to compare at a time.
        instant_s: open a fresh instant for the next part when one is older than this.
        resume: go on where an interrupted run stopped.
        allow_quarantined: what quarantine explains does not count as a difference.
    """

    sample: Sample | None = None
    part_rows: int = PART_ROWS
    instant_s: float = INSTANT_S
    resume: bool = False
    allow_quarantined: bool = False

    def passes(self, verdict: Verdict) -> bool:
        """Whether a verdict is what was asked for."""
        return verdict.accounted if self.allow_quarantined else verdict.green


def run_verify(tables: list[str], fmt: str, options: Options | None = None) -> int:
    """Verify and print one row a table on stdout; what differs is named on stderr.

    Returns: 0 only where every table was compared and is equal, or equal but for quarantine where
        that is allowed.
    """
    settings = load()
    options = options or Options()
    with StateFile(settings.home) as state, Steps() as steps:
        verifier = Verifier(
            settings, steps.note, options, progress=Progress(steps.waiting), state=state
        )
        try:
            verdicts = verifier.verify(tables)
        except KeyboardInterrupt:
            steps.rest()
            steps.note("hint: `./headwater verify --resume` goes on where this stopped")
            raise
        finally:
            steps.rest()
    print_rows(COLUMNS, [verdict.as_row() for verdict in verdicts], fmt)
    for verdict in verdicts:
        for line in verdict.explained():
            print(line, file=sys.stderr)
    return 0 if all(options.passes(verdict) for verdict in verdicts) else 1


class Verifier:
    """Verifies tables of one stack.

    Args:
        note: gets a line for each table.
        progress: counts the rows.
        state: where an interrupted run is kept; None keeps nothing.
        rest: called whenever no instant is open, between parts.
    """

    def __init__(
        self,
        settings: Settings,
        note: Callable[[str], None],
        options: Options | None = None,
        *,
        progress: Progress | None = None,
        state: StateFile | None = None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._lake = Lakehouse(settings)
        self._note = note
        self._options = options or Options()
        self._progress = progress or Progress(lambda _: None)
        # A sample is soon made again, and at other places.
        self._state = None if self._options.sample else state
        self._rest = rest
        self._scratch = settings.home / FOLDER
        self._run = RunState(tables=[])

    def verify(self, tables: list[str]) -> list[Verdict]:
        """Verify `tables` (silver's names; all the captured ones when empty), in name order.

        Raises: HeadwaterError where a part cannot be reached, or a table is not captured.
        """
        with told_apart():
            saved = self._state.load() if self._state and self._options.resume else None
            if saved is not None:
                self._run = saved
                self._note(f"going on with an interrupted run: {len(saved.done)} tables begun")
            elif self._options.resume:
                self._note("no interrupted run to go on with: beginning anew")
            chosen = self._chosen(tables or (saved.tables if saved else []))
            self._run.tables = tables or self._run.tables
            works = [Work(Verdict(name)) for name in chosen]
            self._expect(works)
            left = works
            for number in range(1, ROUNDS + 1):
                self._round(number, left)
                left = [work for work in left if not work.verdict.refused and work.look_again()]
                if not left:
                    break
            if self._state is not None:
                self._state.forget()
            self._await_silver(works)
        return [work.verdict for work in works]

    def _await_silver(self, works: list[Work]) -> None:
        """Until silver holds what was compared; a table that it has stopped is told so."""
        entries = self._lake.ledger()
        for work in works:
            entry = entries.get(work.name)
            if entry is not None and entry.state in (STOPPED, RESUMING, FAILING):
                work.verdict.stopped = f"{entry.reason or entry.state} (tried {entry.tries} times)"
        lsn = max((w.verdict.lsn for w in works if w.verdict.accounted), default=0)
        await_complete(self._settings, self._lake, lsn, self._note)

    def _chosen(self, tables: list[str]) -> list[str]:
        self._names = captured_tables(self._settings)
        unknown = [table for table in tables if table not in self._names]
        if unknown:
            of_streams = declared_streams(self._settings).keys() & set(unknown)
            raise HeadwaterError(
                f"not captured: {', '.join(unknown)}",
                detail=f"the publication holds: {', '.join(sorted(self._names)) or 'no table'}",
                hint="a stream has no source; `verify --bronze` checks its topic"
                if of_streams
                else "`./headwater preflight` says why a table is left out",
            )
        if not tables and (streams := stream_tables(self._settings, self._lake.lake)):
            self._note(left_out(streams))
        return sorted(set(tables) or self._names)

    def _expect(self, works: list[Work]) -> None:
        with psycopg.connect(self._settings.capture_dsn, connect_timeout=10) as connection:
            for work in works:
                rows, _ = size_of(connection, *self._names[work.name])
                self._progress.expect(work.name, 2 * rows)

    def _round(self, number: int, works: list[Work]) -> None:
        left = list(works)
        while left:
            names = [work.name for work in left]
            with open_instant(
                self._settings, self._lake, self._names, names, self._note
            ) as instant:
                while left and self._table(number, left[0], instant):
                    self._progress.finished(left.pop(0).name)
                    if instant.age_s > self._options.instant_s:
                        break
            self._rest()

    def _table(self, number: int, work: Work, instant: Instant) -> bool:
        """Compare parts of one table; whether it is done, or the instant used up before that."""
        started = time.monotonic()
        if not work.planned or number > 1:
            self._note(f"verify {work.name}" + (f", round {number}" * (number > 1)))
        at = instant.table(work.name)
        if at.prediction is None:
            work.verdict.refused = at.contract.refusal or ""
            return True
        if not work.planned:
            saved = self._run.done.get(work.name)
            options = self._options
            work.plan(at, instant, options.sample, options.part_rows, saved)
            if options.sample and work.order is None and options.sample.of(work.rows_about) < 1:
                self._note(f"{work.name} has no key that can be sampled: all of it is compared")
        if number == 1:
            rows = 2 * work.rows_about * len(work.todo) // max(len(work.parts), 1)
            share = self._options.sample.of(work.rows_about) if self._options.sample else 1.0
            self._progress.expect(work.name, int(rows * share))
        for part in list(work.todo):
            work.run(part, at, instant, self._scratch, self._progress)
            self._keep(work)
            if work.todo and instant.age_s > self._options.instant_s:
                break
        work.conclude()
        work.verdict.rounds = number
        work.verdict.seconds += time.monotonic() - started
        return not work.todo

    def _keep(self, work: Work) -> None:
        if self._state is not None:
            self._run.done[work.name] = work.state()
            self._state.save(self._run)


def captured_tables(settings: Settings) -> dict[str, SourceName]:
    """The publication's tables: silver's name → (schema, table); `headwater`'s own left out."""
    query = (
        "SELECT schemaname, tablename FROM pg_publication_tables "
        "WHERE pubname = %s AND schemaname <> 'headwater'"
    )
    with psycopg.connect(settings.capture_dsn, connect_timeout=10) as connection:
        rows = connection.execute(query, [settings.profile.publication_name])
        return {silver_table(*row): (row[0], row[1]) for row in rows}


@contextmanager
def told_apart() -> Iterator[None]:
    """Turn a part that went away meanwhile into an error that says which one."""
    try:
        yield
    except psycopg.Error as error:
        raise HeadwaterError(
            "the source stopped answering while it was verified",
            detail=str(error).strip().splitlines()[0] if str(error).strip() else repr(error),
            hint="`./headwater status postgres`; `verify --resume` goes on afterwards",
        ) from error
    except KafkaError as error:
        raise HeadwaterError(
            "Kafka stopped answering while silver was verified",
            detail=f"{type(error).__name__}: {error}",
            hint="`./headwater status kafka`; `verify --resume` goes on afterwards",
        ) from error
    except (DeltaError, OSError) as error:
        raise HeadwaterError(
            "the object store did not give what was asked for",
            detail=f"{type(error).__name__}: {error}",
            hint=(
                "`./headwater status s3`; if a file was not found, the pinned version is gone: "
                "set a longer `silver_retention_minutes`"
            ),
        ) from error
