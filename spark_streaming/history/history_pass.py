"""Follows bronze behind silver, in one thread beside the batches, for tables whose contract asks for it.

For each such table, until it is where silver is:
1. Read the next events from bronze, from the place that the history table itself has stored.
2. Find the commit from which on each was visible. Where bronze has not got it yet, the slice ends.
3. Write the slice (`history_slice`), in one commit with the place where it ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from deltalake.exceptions import DeltaError, TableNotFoundError

from spark_streaming.batch.upkeep.table_need import Need
from spark_streaming.batch.upkeep.table_upkeep import finish, maintain_table
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.contract.names import HISTORY_COLUMNS, topic_of
from spark_streaming.events.contract_versions import key_changed
from spark_streaming.events.event import RawEvent
from spark_streaming.history.dating import dated, groups
from spark_streaming.history.erased_versions import delete_versions
from spark_streaming.history.history_columns import history_meaning
from spark_streaming.history.history_slice import Slices, UnknownColumnsError
from spark_streaming.history.history_table import HistoryTable, definition
from spark_streaming.ops.erase_requests import ErasedKey
from spark_streaming.ops.ledger import WHOLE_BATCH, LedgerRow, Offsets, Restored
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.commit_log import CommitLog
from spark_streaming.reading.events_by_time import EventsByTime
from spark_streaming.reading.expired_events import NotArchivedError
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.meaning import TableMeaning, read_meaning, write_meaning
from spark_streaming.tables.silver_table import SilverTable, TableOptions

log = logging.getLogger(__name__)
PASS_S = 5.0
# What is in memory at once, beside the current versions of the rows that it names.
SLICE_EVENTS_MAX = 5_000
SLICE_BYTES_MAX = 16 << 20
# Slices of a table before the next table has its turn.
TURN_SLICES = 20
# Bronze of several partitions does not end at one instant: what is younger waits.
MARGIN_MS = 10_000
RETRY_S = 30.0
MEANING_S = 20.0
STOP_S = 2.0
# The topic of the transactions' END records, behind the prefix.
TRANSACTIONS = "transaction"


@dataclass
class _Followed:
    """One table's history, as this process knows it (times by the monotonic clock)."""

    table: HistoryTable
    need: Need
    retry_at: float = 0.0
    described_at: float = -MEANING_S
    # When it was last as far as silver was then. While it is filled from bronze: its last slice.
    current_at: float = 0.0
    has_been_current: bool = False
    said: TableMeaning | None = None
    problem: str = ""


@dataclass
class HistoryPass:
    """The histories of the tables of one silver job.

    Args:
        tables: returns the silver tables.
        restored: how far silver has merged, at the start.
    """

    lake: Lake
    bronze: Bronze
    prefix: str
    tables: Callable[[], Sequence[SilverTable]]
    files: ContractFolder
    options: TableOptions
    restored: Restored = field(default_factory=Restored)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        # topic → partition → the offset up to which silver has merged; what a stopped table
        # has read and not merged does not count.
        stopped = {stop.topic: dict(stop.offsets) for stop in self.restored.stops}
        self.ends: Offsets = {**self.restored.offsets, **stopped}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._running: Future[None] | None = None
        self._stopping = threading.Event()
        self._began_at = -PASS_S
        self._commits = CommitLog(self.bronze, f"{self.prefix}.{TRANSACTIONS}")
        self._followed: dict[str, _Followed] = {}
        self._erasures: deque[tuple[str, Sequence[ErasedKey], Future[int]]] = deque()

    def after_batch(self, rows: Sequence[LedgerRow]) -> None:
        """Note how far silver is, and begin a pass if one is due and none runs; return at once."""
        merged = {
            t: dict(e) for r in rows if r.table_name != WHOLE_BATCH for t, e in r.offsets.items()
        }
        self.ends = {**self.ends, **merged}
        idle = self._running is None or self._running.done()
        if idle and self.clock() - self._began_at >= PASS_S and not self._stopping.is_set():
            self._began_at = self.clock()
            self._running = self._thread.submit(self._guarded)

    def erase(self, table: str, keys: Sequence[ErasedKey]) -> Future[int]:
        """Remove versions of keys in the next pass, between two tables' turns: no slice read before is written after.

        Returns: the number of versions removed; 0 if the table has no history.
        """
        done: Future[int] = Future()
        self._erasures.append((table, keys, done))
        return done

    def waiting_s(self) -> dict[str, float]:
        """Return for how long each history has not been where silver is, by silver table, in seconds.

        While a history is filled from bronze for the first time, that is the time since its last slice.
        """
        now = self.clock()
        return {name: now - known.current_at for name, known in list(self._followed.items())}

    def stop(self) -> bool:
        """Begin no further slice; wait for the current one. Returns: whether none runs any more."""
        self._stopping.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        return self._running is None or not wait([self._running], STOP_S).not_done

    def run(self, pause: Callable[[float], object] = lambda s: None) -> int:
        """Bring all histories as far as silver and bronze are. Returns: the number of slices written.

        Args:
            pause: called after each slice with the seconds that it took.
        """
        self._commits.refresh()
        written, more = 0, True
        while more and not self._stopping.is_set():
            more = False
            for silver in self.tables():
                self._erase()
                slices = self._turn(silver, pause)
                written += slices
                more = more or slices == TURN_SLICES
        return written

    def _erase(self) -> None:
        while self._erasures:
            name, keys, done = self._erasures.popleft()
            try:
                done.set_result(self._erased(name, keys))
            except Exception as error:  # noqa: BLE001 - whoever asked gets it
                done.set_exception(error)

    def _erased(self, name: str, keys: Sequence[ErasedKey]) -> int:
        try:
            handle = self.lake.table(self.lake.history_path(name))
        except TableNotFoundError:
            return 0
        [contract] = [silver.contract for silver in self.tables() if silver.name == name]
        rules = self.files.rules_of(contract)
        versions = delete_versions(handle, contract, rules, self.files.mask_secret, keys)
        if known := self._followed.get(name):
            known.table.forget()  # its handle does not have that commit
            known.need.changed(self.clock())
        return versions

    def _guarded(self) -> None:
        try:
            # As long as it worked it leaves the processor to the batches.
            self.run(self._stopping.wait)
        except Exception as error:  # noqa: BLE001 - the next pass tries again
            log.warning("histories were not followed: %s: %s", type(error).__name__, error)

    def _turn(self, silver: SilverTable, pause: Callable[[float], object]) -> int:
        """Write some slices of one table; a failure is logged, and tried again later."""
        contract, known = silver.contract, self._followed.get(silver.name)
        if known is not None:
            self._maintain(known)
        if self._stopping.is_set() or (known is not None and self.clock() < known.retry_at):
            return 0
        try:
            content = self.files.content_of(contract.schema, contract.table)
            mode = content.history if content is not None else None
            if mode is None:
                self._followed.pop(silver.name, None)
                return 0
            if known is None:
                topic = topic_of(self.prefix, contract.schema, contract.table)
                table = HistoryTable(self.lake, silver.name, topic, self.options)
                known = _Followed(
                    table,
                    Need.of(self.options.retention_minutes, self.clock()),
                    current_at=self.clock(),
                )
                self._followed[silver.name] = known
            if reason := refusal(contract):
                raise _Refused(reason)
            slices = self._follow(known, contract, mode, pause)
        except (UnknownColumnsError, NotArchivedError, ContractFileError, _Refused) as error:
            self._failed(known, silver.name, str(error))
        except Exception as error:  # noqa: BLE001 - silver goes on; the next try reads the store anew
            self._failed(known, silver.name, f"{type(error).__name__}: {error}")
        else:
            if known.problem:
                log.info("history of %s goes on", silver.name)
            known.problem = ""
            return slices
        return 0

    def _failed(self, known: _Followed | None, name: str, problem: str) -> None:
        if known is None:
            return  # the contract file is wrong: the job says so
        if known.problem != problem:
            log.warning("history of %s waits: %s", name, problem)
        known.problem, known.retry_at = problem, self.clock() + RETRY_S
        known.table.forget()

    def _follow(
        self, known: _Followed, contract: Contract, mode: str, pause: Callable[[float], object]
    ) -> int:
        table, asked_at = known.table, self.clock()
        topic = topic_of(self.prefix, contract.schema, contract.table)
        ends = self.ends.get(topic, {})
        rules = self.files.rules_of(contract)
        if table.open(contract, definition(contract, rules, mode), sorted(ends)):
            log.info("history of %s begins with bronze's first event", contract.table)
        self._describe(known)
        slices = Slices(table, contract, rules, self.files.mask_secret, mode)
        written = 0
        feed = self._feed(topic, ends, table.progress.offsets)
        while written < TURN_SLICES and not self._stopping.is_set():
            began = time.monotonic()
            events = feed.take(SLICE_EVENTS_MAX, SLICE_BYTES_MAX)
            visible = dated(events, table.progress.reached, self._commits.after)
            for group in groups(visible):
                slices.take(group)
                written += 1
                if not known.has_been_current:
                    known.current_at = self.clock()
                known.need.changed(self.clock())
                self._maintain(known)
                pause(time.monotonic() - began)
            if not events:
                # Bronze has no more; silver's offsets may lie behind the markers of Kafka's transactions.
                known.current_at, known.has_been_current = asked_at, True
            if not events or len(visible) < len(events):
                break
        return min(written, TURN_SLICES)

    def _feed(
        self, topic: str, ends: Mapping[int, int], offsets: Mapping[int, int]
    ) -> EventsByTime:
        def explain(partition: int, first: int, last: int) -> None:
            if first < (kept_from := self.bronze.kept_from(topic, partition)):
                raise NotArchivedError(
                    f"{topic}: events before offset {kept_from} of partition {partition} were deleted by age "
                    "(`bronze_keep_days`), so its history cannot be filled from its beginning"
                )
            raise NotArchivedError(
                f"bronze lacks the offsets {first} to {last} of partition {partition} of {topic}"
            )

        def events(partition: int) -> Iterator[RawEvent]:
            start = offsets.get(partition, 0)
            if start >= ends[partition]:
                return
            for event in self.bronze.events(topic, partition, start, explain):
                if event.offset >= ends[partition]:
                    return
                yield event

        young_ms = None if len(ends) < 2 else int(time.time() * 1000) - MARGIN_MS
        return EventsByTime({number: events(number) for number in ends}, young_ms)

    def _describe(self, known: _Followed) -> None:
        """Give the table the meaning of silver's: descriptions, classes, masks."""
        if self.clock() - known.described_at < MEANING_S:
            return
        known.described_at = self.clock()
        name = known.table.name.partition(".")[2]
        try:
            wanted = history_meaning(read_meaning(self.lake.table(self.lake.silver_path(name))))
        except TableNotFoundError:
            return
        if wanted != known.said:
            write_meaning(known.table.handle(), wanted)
            known.said = wanted

    def _maintain(self, known: _Followed) -> None:
        """Maintain a history between two slices, also one that gets none any more."""
        began = self.clock()
        if not (steps := known.need.due(began)):
            return
        try:
            finish(maintain_table(known.table, steps))
            known.need.done(steps, began)
        except (DeltaError, OSError) as error:
            log.warning("maintenance of %s failed: %s", known.table.name, error)
            known.need.failed(self.clock())
            known.table.forget()


class _Refused(Exception):
    """A table has no history; the message says why."""


def refusal(contract: Contract) -> str | None:
    """Return why a table cannot have a history by its present contract; None if it can."""
    if key_changed(contract):
        return (
            "the table's key changed, so older deletes in bronze name rows by another key; "
            "what the history has stays"
        )
    taken = sorted({c.name.lower() for c in contract.columns} & set(HISTORY_COLUMNS))
    return f"the source's own column(s) are named {', '.join(taken)}" if taken else None
