"""Maintains the tables in the process that writes them, within a budget of time after each batch.

One thread beside the batches takes the neediest table (`table_need`) and does piece after piece of its
work (`table_upkeep`) until the budget is used up; the next batch's budget continues there. A piece of work on a table of silver
holds its lock while one log entry is put, and no longer; tables of `ops` are joined with their lock held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from spark_streaming.batch.upkeep.table_need import Need, Steps
from spark_streaming.batch.upkeep.table_upkeep import (
    OpsTable,
    Run,
    maintain_ledger,
    maintain_ops,
    maintain_table,
)
from spark_streaming.ops.job_metrics import MaintenanceMetrics
from spark_streaming.ops.ledger import Ledger, LedgerRow
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.schema.topics import Topics
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.silver_table import TableOptions

log = logging.getLogger(__name__)
LEDGER_JOIN_COMMITS = 60
BUDGET_S = 1.0

Work = Callable[[Steps, Run], Iterator[None]]


@dataclass
class _Turn:
    """A table's maintenance under way."""

    name: str
    steps: Steps
    began: float
    run: Run
    work: Iterator[None]
    worked_s: float = 0.0


class Maintenance:
    """Decides after each batch what is due, and does it in a thread of its own."""

    def __init__(
        self,
        lake: Lake,
        topics: Topics,
        ledger: Ledger | None,
        options: TableOptions,
        ops: Mapping[str, OpsTable] | None = None,
        metrics: MaintenanceMetrics | None = None,
        files: ContractFolder | None = None,
        budget_s: float = BUDGET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lake = lake
        self._topics = topics
        self._ops = ops or {}
        self._ledger = ledger
        self._retention_minutes = options.retention_minutes
        self._budget_s = budget_s
        self._clock = clock
        self._needs: dict[str, Need] = {}
        self._works: dict[str, Work] = {}
        # A failed step stays here until it succeeds in a later run; in most runs it is not due.
        self._failing: dict[str, set[str]] = {}
        self._turn: _Turn | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="maintenance")
        self._running: Future[None] | None = None
        self._stopping = False
        self._metrics = metrics
        self._files = files or ContractFolder()
        if metrics is not None:
            metrics.show_waiting(self.waiting_s)

    def waiting_s(self) -> float:
        """How long the oldest due run has waited or lasted, in seconds; 0 without one."""
        began = [need.due_since for need in list(self._needs.values())]
        return max((self._clock() - at for at in began if at is not None), default=0.0)

    def after_batch(self, rows: Sequence[LedgerRow]) -> None:
        """Note a batch's commits, and work for the budget if something is due; returns at once."""
        merged = {row.table_name for row in rows if row.delta_version is not None}
        for table in self._topics.tables():
            keep = partial(self._files.time_travel_of, table.contract)
            need = self.follow(table.name, partial(maintain_table, table, keep=keep))
            if table.name in merged:
                need.changed(self._clock())
        if self._ledger is not None:
            work = partial(maintain_ledger, self._lake, self._ledger)
            self.follow("ops.ledger", work, LEDGER_JOIN_COMMITS).changed(self._clock())
        for name, kept in self._ops.items():
            need = self.follow(f"ops.{name}", partial(self._ops_work, f"ops.{name}", kept))
            need.polled = True
        self.begin()

    def follow(self, name: str, work: Work, join_commits: int | None = None) -> Need:
        """Return what a table needs; `work` is how it gets it. A table that is new here is shown from now on."""
        self._works[name] = work
        need = self._needs.get(name)
        if need is None:
            need = self._needs[name] = Need.of(self._retention_minutes, self._clock())
            need.join_commits = join_commits or need.join_commits
            if self._metrics is not None:
                self._metrics.known(name)
        return need

    def begin(self) -> None:
        """Work for the budget if something is due and no work is under way; returns at once."""
        now = self._clock()
        for need in self._needs.values():
            need.observe(now)
        wanted = self._turn is not None or any(
            need.due_since is not None for need in self._needs.values()
        )
        if self.is_idle() and wanted and not self._stopping:
            self._running = self._thread.submit(self._work)

    def stop(self) -> None:
        """Begin no further piece of work."""
        self._stopping = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def is_idle(self) -> bool:
        """Whether no piece of work is under way."""
        return self._running is None or self._running.done()

    def _ops_work(self, name: str, table: OpsTable, steps: Steps, run: Run) -> Iterator[None]:
        del steps  # only cleaning is ever due
        return maintain_ops(self._lake, table, run, self._needs[name], self._clock)

    def _work(self) -> None:
        ends = self._clock() + self._budget_s
        while not self._stopping and self._clock() < ends:
            self._turn = self._turn or self._neediest()
            if self._turn is None:
                return
            self._advance(self._turn)

    def _neediest(self) -> _Turn | None:
        now = self._clock()
        scores = {name: need.score(now) for name, need in list(self._needs.items())}
        name = max(scores, key=lambda each: scores[each], default="")
        steps = self._needs[name].due(now) if name else Steps()
        if not steps:
            return None
        run = Run()
        return _Turn(name, steps, now, run, self._works[name](steps, run))

    def _advance(self, turn: _Turn) -> None:
        # A failed run is tried again later: no data depends on maintenance.
        began, need = time.monotonic(), self._needs[turn.name]
        try:
            ended = next(turn.work, self) is self
        except Exception as error:  # noqa: BLE001
            failed_text = f"{type(error).__name__}: {error}"
            log.warning("maintenance of %s failed: %s", turn.name, failed_text)
            need.failed(self._clock())
            self._ended(turn, began, failed=True)
            return
        turn.worked_s += time.monotonic() - began
        if ended:
            need.done(turn.steps, turn.began, cleaned="vacuum" in turn.run.done)
            self._ended(turn, time.monotonic(), failed=False)

    def _ended(self, turn: _Turn, began: float, *, failed: bool) -> None:
        self._turn, run = None, turn.run
        failing = self._failing.setdefault(turn.name, set())
        failing |= {run.step} if failed else set()
        failing -= run.done
        if self._metrics is not None and (failed or run.done):
            self._metrics.ended(
                turn.name,
                turn.worked_s + time.monotonic() - began,
                joined=run.joined,
                removed=run.removed,
                failed=failed,
                failing=bool(failing),
            )
            self._metrics.held(run.held_s)
