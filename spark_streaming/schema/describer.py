"""Writes the meaning of silver's tables into their metadata, in one thread beside the batches.

Each commit changes metadata only and holds the table's lock, so no merge runs on the table
meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.contract.contract_store import CatalogUnreachableError, ContractStore
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.rules.declared_meaning import declared_meaning
from spark_streaming.schema.catalog_watch import CatalogWatch, Table
from spark_streaming.schema.topics import Topics
from spark_streaming.tables.meaning import TableMeaning, write_meaning
from spark_streaming.tables.silver_table import SilverTable

log = logging.getLogger(__name__)
# How often contract files and the source's comments are compared with the tables' metadata.
CHECK_S = 5.0
# How often the tables themselves are checked: a rewrite of a table drops its columns' descriptions.
FULL_CHECK_S = 20.0
STOP_S = 2.0


class Describer:
    """Writes descriptions, classes, owners and tags into the tables that this process writes.

    Args:
        contracts: the stored contracts, for tables that have had no event since the start.
        files, watch: the contract files and the source's catalog, from which the meaning comes.
    """

    def __init__(
        self,
        topics: Topics,
        contracts: ContractStore,
        files: ContractFolder,
        watch: CatalogWatch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics = topics
        self._contracts = contracts
        self._files = files
        self._watch = watch
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="describer")
        self._running: Future[None] | None = None
        self._stopping = threading.Event()
        self._checked_at = self._looked_at = -FULL_CHECK_S
        self._comments: dict[Table, dict[str, str]] | None = None
        self._said: dict[str, TableMeaning] = {}
        self._quiet: dict[Table, object] = {}
        self._failed: dict[str, str] = {}

    def after_batch(self) -> None:
        """Begin a check if one is due and none runs; return at once."""
        now = self._clock()
        idle = self._running is None or self._running.done()
        if idle and now - self._checked_at >= CHECK_S and not self._stopping.is_set():
            self._checked_at = now
            self._running = self._thread.submit(self._guarded)

    def stop(self) -> bool:
        """Start no further table; wait for the current one. Returns: whether none runs any more."""
        self._stopping.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        return self._running is None or not wait([self._running], STOP_S).not_done

    def check(self) -> int:
        """Compare all tables with their declared meaning. Returns: the number of commits made."""
        try:
            self._comments = self._watch.comments()
        except CatalogUnreachableError as error:
            log.debug("%s", error)
        if self._comments is None:
            return 0  # the source's comments are not known yet
        full = self._clock() - self._looked_at >= FULL_CHECK_S
        commits = 0
        tables = self._topics.tables()
        for table in tables:
            if self._stopping.is_set():
                return commits
            commits += self._each(table.name, partial(self._describe, table, full))
        if full:
            self._looked_at = self._clock()
            known = {(t.contract.schema, t.contract.table) for t in tables}
            for source in self._contracts.tables():
                if source not in known and not self._stopping.is_set():
                    commits += self._each(
                        ".".join(source),
                        partial(self._describe_quiet, source),
                    )
        return commits

    def _describe(self, table: SilverTable, full: bool) -> int:
        wanted = self._meaning(table)
        if not full and self._said.get(table.name) == wanted:
            return 0
        with table.lock:
            try:
                commits = write_meaning(table.handle(), wanted)
            except Exception:
                table.forget()
                raise
        self._said[table.name] = wanted
        return commits

    def _describe_quiet(self, source: Table) -> int:
        """Describe a table without an event since the start, which no batch has written to."""
        declared = (self._files.stamp(*source), self._own_comments(source))
        if self._quiet.get(source) == declared:
            return 0
        contract, table = self._contracts.latest(*source), self._topics.open_silver(*source)
        commits = 0
        if contract is not None and table is not None and not contract.refusal:
            content = self._files.content_of(*source)
            meaning = declared_meaning(contract, content, self._own_comments(source))
            commits = write_meaning(table, meaning)
        self._quiet[source] = declared
        return commits

    def _meaning(self, table: SilverTable) -> TableMeaning:
        contract = table.contract
        source = (contract.schema, contract.table)
        content = self._files.content_of(*source)
        return declared_meaning(contract, content, self._own_comments(source))

    def _own_comments(self, source: Table) -> dict[str, str]:
        return (self._comments or {}).get(source, {})

    def _each(self, name: str, work: Callable[[], int]) -> int:
        """Do the work of one table; log a failure if it is new, and try again later."""
        try:
            commits = work()
        except (ContractFileError, TableNotFoundError) as error:
            log.debug("the descriptions of table %s stay as they are: %s", name, error)
            return 0
        except Exception as error:  # noqa: BLE001 - no data depends on it
            text = f"{type(error).__name__}: {error}"
            if self._failed.get(name) != text:
                log.warning("the descriptions of table %s could not be written: %s", name, text)
            self._failed[name] = text
            return 0
        self._failed.pop(name, None)
        if commits:
            log.info("table %s: its descriptions are written (%d commits)", name, commits)
        return commits

    def _guarded(self) -> None:
        try:
            self.check()
        except Exception as error:  # noqa: BLE001 - the next check tries again
            log.warning("tables could not be described: %s: %s", type(error).__name__, error)
