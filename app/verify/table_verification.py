"""Proves that silver equals the source, row by row and column by column, while writes go on.

Each table is compared in parts (ranges of its key), each part at one instant of the source
(`app.compare`). As many parts as fit into INSTANT_S share an instant, because silver's old
versions and the source's old rows are kept only for a while. A part that differs is compared again
at a fresh instant, at most ROUNDS times, after silver has caught up with the previous one
(`catch_up`). Only differences that remain then are reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
from deltalake.exceptions import DeltaError
from kafka.errors import KafkaError

from app.compare.catch_up import await_followed
from app.compare.instant import Instant, await_complete, open_instant
from app.compare.ranges import size_of
from app.environment.settings import Settings, load, of_each_source
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse
from app.lake.patience import PATIENCE_S, SilverState, Waits, behind_text
from app.lake.stream_tables import declared_streams, left_out, stream_tables
from app.printing import Steps, print_rows
from app.verify.rereads import rereads
from app.verify.verdict import COLUMNS, DROPPED, Verdict
from app.verify.verify_progress import Progress
from app.verify.verify_state import FOLDER, RunState, StateFile
from app.verify.verify_uncompared import captured_tables, in_silver, nothing_to_compare, uncompared
from app.verify.verify_work import Sample, Work
from spark_streaming.contract.lsn import LOG_START
from spark_streaming.ops.stopped import FAILING, RESUMING, STOPPED
from spark_streaming.storage.connections import TCP_LIMITS

ROUNDS = 3
NOT_KNOWN = 3  # the exit code if nothing was compared
PART_ROWS = 500_000
# Well within the time for which silver keeps old versions (`silver_retention_minutes`).
INSTANT_S = 240.0


@dataclass(frozen=True)
class Options:
    """How to verify.

    Args:
        sample: compare only a part of each table.
        part_rows: about how many rows to compare at a time.
        instant_s: the greatest age of an instant at which another part is begun.
        resume: continue an interrupted run.
        allow_quarantined: do not count rows that quarantine explains as differences.
        patience_s: how long to wait for silver while it makes no progress.
    """

    sample: Sample | None = None
    part_rows: int = PART_ROWS
    instant_s: float = INSTANT_S
    resume: bool = False
    allow_quarantined: bool = False
    patience_s: float = PATIENCE_S

    def passes(self, verdict: Verdict) -> bool:
        """Check whether a verdict is a success; for a dropped table there is nothing to compare."""
        if verdict.uncompared == DROPPED:
            return True
        return verdict.equal_or_explained if self.allow_quarantined else verdict.equal


def run_verify(
    tables: list[str],
    fmt: str,
    options: Options | None = None,
    silver: Callable[[], SilverState] = SilverState,
) -> int:
    """Verify, print one row for each table on stdout, and list differences on stderr.

    Args:
        silver: returns the state of the service `silver`.
    Returns: 0 if every table was compared and is equal (rows in quarantine may differ if that is
        allowed); NOT_KNOWN if none was compared; else 1.
    """
    settings = load()
    options = options or Options()
    # Named tables are the main source's: `--from NAME` names another's.
    sources = [settings] if tables else of_each_source(settings)
    verdicts: list[Verdict] = []
    unknown = False
    for one in sources:
        main = one is settings
        try:
            found = _verdicts(one, tables, options, silver if main else SilverState)
        except (HeadwaterError, psycopg.Error, DeltaError, KafkaError, OSError) as error:
            if len(sources) == 1:
                raise
            print(f"source {one.source or 'of the home'}: {error}", file=sys.stderr)
            unknown = True
            continue
        verdicts += found if main else [replace(v, table=f"{one.source}.{v.table}") for v in found]
    print_rows(COLUMNS, [verdict.as_row() for verdict in verdicts], fmt)
    for verdict in verdicts:
        for line in verdict.messages():
            print(line, file=sys.stderr)
    if all(verdict.uncompared for verdict in verdicts):
        print("nothing was compared", file=sys.stderr)
        return NOT_KNOWN
    if unknown:
        return NOT_KNOWN
    return 0 if all(options.passes(verdict) for verdict in verdicts) else 1


def _verdicts(
    settings: Settings, tables: list[str], options: Options, silver: Callable[[], SilverState]
) -> list[Verdict]:
    """Verify tables of one source."""
    with StateFile(settings.home, source=settings.source) as state, Steps() as steps:
        steps.waiting("verify: asking the source which tables are captured")
        waits = Waits(steps.note, steps.waiting, silver, options.patience_s)
        verifier = Verifier(settings, waits, options, progress=Progress(steps.waiting), state=state)
        try:
            return verifier.verify(tables)
        except KeyboardInterrupt:
            steps.rest()
            steps.note("hint: `./headwater verify --resume` continues where this stopped")
            raise
        finally:
            steps.rest()


class Verifier:
    """Verifies tables of one stack.

    Args:
        waits: shows a line for each table, and the reason of a wait.
        progress: counts the rows.
        state: keeps finished parts for `--resume`; None keeps nothing.
        rest: called between parts, while no instant is open.
    """

    def __init__(
        self,
        settings: Settings,
        waits: Waits,
        options: Options | None = None,
        *,
        progress: Progress | None = None,
        state: StateFile | None = None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._lake = Lakehouse(settings)
        self._waits = waits
        self._note = waits.note
        self._behind: dict[str, int] = {}
        self._options = options or Options()
        self._progress = progress or Progress(lambda _: None)
        # A sample is not saved: it is quick to repeat, and the next one takes other rows.
        self._state = None if self._options.sample else state
        self._rest = rest
        self._scratch = settings.home / FOLDER
        self._run = RunState(tables=[])

    def verify(self, tables: list[str]) -> list[Verdict]:
        """Verify `tables` (silver's names), or all captured tables, in the order of their names.

        Without `tables`, tables that cannot be compared have a verdict, too.
        Raises: HeadwaterError if the source, Kafka or the lake does not answer, a table is not
            captured, or there is nothing to compare.
        """
        with named_failures():
            saved = self._state.load() if self._state and self._options.resume else None
            if saved is not None:
                self._run = saved
                self._note(f"continuing an interrupted run: {len(saved.done)} tables begun")
            elif self._options.resume:
                self._note("there is no interrupted run to continue: starting from the beginning")
            asked = tables or (saved.tables if saved else [])
            chosen, others = self._chosen(asked)
            if not chosen and not others:
                raise nothing_to_compare(self._settings)
            self._run.tables = tables or self._run.tables
            works = [Work(Verdict(name)) for name in chosen]
            self._expect(works)
            left = works
            for number in range(1, ROUNDS + 1):
                self._round(number, left)
                left = [
                    work for work in left if not work.verdict.refused and work.repeat_differing()
                ]
                if not left:
                    break
                if number < ROUNDS:
                    self._await_followed(left)
            if self._state is not None:
                self._state.forget()
            self._await_silver(works)
            self._name_rereads(works)
        return [work.verdict for work in works] + others

    def _name_rereads(self, works: list[Work]) -> None:
        differing = {w.name: w.verdict for w in works if not w.verdict.equal_or_explained}
        if differing:
            texts = rereads(self._lake.lake, {name: self._names[name] for name in differing})
            for name, text in texts.items():
                differing[name].reread = text

    def _await_followed(self, works: list[Work]) -> None:
        lsn = max(lsn for work in works for lsn in work.lsns.values())
        names = [self._names[work.name] for work in works]
        await_followed(self._settings, self._lake, names, lsn, self._waits)

    def _await_silver(self, works: list[Work]) -> None:
        """Wait until silver holds the compared rows, then mark the tables that it has stopped.

        A table that failed with its whole batch runs again as soon as the batch is repeated.
        """
        lsn = max((w.verdict.lsn for w in works if w.verdict.equal_or_explained), default=LOG_START)
        what = behind_text({work.name: self._behind.get(work.name, 0) for work in works})
        await_complete(self._settings, self._lake, lsn, self._waits, what=what)
        entries = self._lake.ledger()
        for work in works:
            entry = entries.get(work.name)
            if entry is not None and entry.state in (STOPPED, RESUMING, FAILING):
                work.verdict.stopped = f"{entry.reason or entry.state} (tried {entry.tries} times)"

    def _chosen(self, tables: list[str]) -> tuple[list[str], list[Verdict]]:
        """Choose the tables to compare; return them and the verdicts of those that cannot be."""
        self._names = captured_tables(self._settings)
        tables = in_silver(self._names, tables)
        unknown = set(tables) - self._names.keys()
        others = []
        if unknown or not tables:
            others = uncompared(self._settings, self._names)
        if tables:
            others = [verdict for verdict in others if verdict.table in unknown]
        unknown -= {verdict.table for verdict in others}
        if unknown:
            of_streams = declared_streams(self._settings).keys() & unknown
            raise HeadwaterError(
                f"not captured: {', '.join(sorted(unknown))}",
                detail=f"the publication holds: {', '.join(sorted(self._names)) or 'no table'}",
                hint="a stream has no source; `verify --bronze` checks its topic"
                if of_streams
                else "`./headwater preflight` says why a table is left out",
            )
        if not tables and (streams := stream_tables(self._settings, self._lake.lake)):
            self._note(left_out(streams))
        return sorted(self._names.keys() & set(tables) if tables else self._names), others

    def _expect(self, works: list[Work]) -> None:
        with psycopg.connect(self._settings.capture_dsn, **TCP_LIMITS) as connection:
            for work in works:
                rows, _ = size_of(connection, *self._names[work.name])
                self._progress.expect(work.name, 2 * rows)

    def _round(self, number: int, works: list[Work]) -> None:
        left = list(works)
        while left:
            names = [work.name for work in left]
            with open_instant(
                self._settings, self._lake, self._names, names, self._waits
            ) as instant:
                while left and self._table(number, left[0], instant):
                    self._progress.finished(left.pop(0).name)
                    if instant.age_s > self._options.instant_s:
                        break
            self._rest()

    def _table(self, number: int, work: Work, instant: Instant) -> bool:
        """Compare parts of one table; return False if the instant grew too old before the end."""
        started = time.monotonic()
        if not work.planned or number > 1:
            self._note(f"verify {work.name}" + (f", round {number}" * (number > 1)))
        self._waits.show(f"verify {work.name}: reading the events that silver has not applied")
        self._behind[work.name] = instant.offsets_behind(work.name)
        at = instant.table(work.name)
        if at.prediction is None:
            work.verdict.refused = at.contract.refusal or ""
            return True
        if not work.planned:
            saved = self._run.done.get(work.name)
            options = self._options
            work.plan(at, instant, options.sample, options.part_rows, saved)
            if options.sample and work.order is None and options.sample.of(work.rows_about) < 1:
                self._note(
                    f"{work.name} has no key that can be sampled: the whole table is compared"
                )
        if number == 1:
            rows = 2 * work.rows_about * len(work.todo) // max(len(work.parts), 1)
            share = self._options.sample.of(work.rows_about) if self._options.sample else 1.0
            self._progress.expect(work.name, int(rows * share))
        self._waits.show(f"verify {work.name}: comparing source and silver")
        for part in list(work.todo):
            work.run(part, at, instant, self._scratch, self._progress)
            self._save(work)
            if work.todo and instant.age_s > self._options.instant_s:
                break
        work.conclude()
        work.verdict.rounds = number
        work.verdict.seconds += time.monotonic() - started
        return not work.todo

    def _save(self, work: Work) -> None:
        if self._state is not None:
            self._run.done[work.name] = work.state()
            self._state.save(self._run)


@contextmanager
def named_failures() -> Iterator[None]:
    """Turn failures of the source, Kafka or the object store into errors that name it."""
    try:
        yield
    except psycopg.Error as error:
        raise HeadwaterError(
            "the source stopped answering while it was verified",
            detail=str(error).strip().splitlines()[0] if str(error).strip() else repr(error),
            hint="see `./headwater status postgres`; `verify --resume` continues afterwards",
        ) from error
    except KafkaError as error:
        raise HeadwaterError(
            "Kafka stopped answering while silver was verified",
            detail=f"{type(error).__name__}: {error}",
            hint="see `./headwater status kafka`; `verify --resume` continues afterwards",
        ) from error
    except (DeltaError, OSError) as error:
        raise HeadwaterError(
            "a read from the object store failed",
            detail=f"{type(error).__name__}: {error}",
            hint=(
                "see `./headwater status s3`; if a file was not found, the pinned version is gone: "
                "set a longer `silver_retention_minutes`"
            ),
        ) from error
