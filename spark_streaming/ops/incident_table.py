"""`ops/incidents` in the lake: failures with their beginning, end and resolution.

Any process may write: a row is appended by a conditional put, which is tried again if another
process was first. No caller waits for the store. A thread writes what was recorded; it
1. reads the others' new events;
2. leaves out events that are already recorded: an incident is opened once, and closed once;
3. appends the rest in one commit; if the store does not answer, it keeps the newest WAITING_MAX
events and tries again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake import write_deltalake as write_delta
from deltalake.exceptions import DeltaError

from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.incident_rows import (
    CLOSED,
    OPEN,
    SCHEMA,
    Incident,
    kept_ids,
    natural_id,
    newest,
    recurring_id,
)
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.small_table import clean

log = logging.getLogger(__name__)
PATH = "ops/incidents"
# A year and a bit, so that a year can be compared with the one before. The number has a limit, too,
# because a part that fails every minute would make the table too large in that time.
KEPT = timedelta(days=400)
CLOSED_MAX = 10_000
WAITING_MAX = 1_000
# Each commit makes a file; after this many, they are merged into one and removed.
COMPACT_COMMITS = 50
BACKOFF_S, BACKOFF_MAX_S = 1.0, 30.0
# If the store does not answer, this module tries again; the client must not do so for minutes.
_PATIENCE = {"connect_timeout": "5s", "timeout": "30s", "max_retries": "2"}


class IncidentLog:
    """The incidents of one lake, for one process. Safe for several threads; no call but `refresh`
    and `flush` waits for the store.

    Args:
        clock: the time now, in UTC.
    """

    def __init__(
        self, lake: Lake, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    ) -> None:
        self._lake = lake
        self._clock = clock
        self._guard = threading.Condition()  # guards all fields below except the table
        self._recorded: dict[str, Incident] = {}  # in the lake, as last read or written
        self._known: dict[str, Incident] = {}  # the same, with the events that wait to be written
        self._waiting: deque[Incident] = deque(maxlen=WAITING_MAX)
        self._same: dict[str, str] = {}  # own id of an outage → another process's id of it
        self._thread: threading.Thread | None = None
        self._store = threading.Lock()  # guards the table
        self._table: DeltaTable | None = None
        self._files: Any = None
        self._version = -1
        self._failure = ""

    def open_incident(
        self,
        kind: str,
        name: str,
        *,
        cause: str,
        tables: Sequence[str] = (),
        lsn_from: Lsn | None = None,
        lsn_to: Lsn | None = None,
        recurs: bool = False,
    ) -> str:
        """Record that something is wrong, unless this incident is recorded already.

        Args:
            kind: e.g. `slot_lost`, `counts_short`, `gap`; letters, digits and _.
            name: the natural key; two findings of a kind with one name are the same incident.
            cause: one or two sentences for people, without secrets.
            tables: tables of the source, `schema.table`.
            lsn_from, lsn_to: WAL byte positions between which something is missing.
            recurs: whether a closed incident of this name may begin again (a service that fails
                now and then). Otherwise a closed one stays closed, however often it is found.
        Returns: the incident's identifier.
        """
        with self._guard:
            now = self._clock()
            natural = natural_id(kind, name)
            known = _open_one(self._known, kind, name) if recurs else self._known.get(natural)
            if known is not None:
                return known.id
            made = recurring_id(kind, name, now) if recurs else natural
            event = Incident(
                made, now, OPEN, kind, name, tuple(tables), lsn_from, lsn_to, cause, None, now
            )
            self._record(event)
            return made

    def extend_incident(
        self,
        id: str,
        *,
        cause: str | None = None,
        tables: Sequence[str] | None = None,
        lsn_to: Lsn | None = None,
    ) -> None:
        """Record new facts about an open incident; arguments that are None change nothing."""
        with self._guard:
            known = self._known.get(self._same.get(id, id))
            if known is None or not known.open:
                return
            event = replace(
                known,
                at=self._clock(),
                cause=known.cause if cause is None else cause,
                tables=known.tables if tables is None else tuple(tables),
                lsn_to=known.lsn_to if lsn_to is None else lsn_to,
            ).after(known)
            if replace(event, at=known.at) != known:
                self._record(event)

    def close_incident(self, id: str, how: str) -> None:
        """Record how an incident ended; do nothing if it is closed already, or unknown."""
        with self._guard:
            known = self._known.get(self._same.get(id, id))
            if known is None or not known.open:
                return
            event = replace(known, at=self._clock(), state=CLOSED, how_closed=how)
            self._record(event.after(known))

    def incidents(self, *, state: str | None = None, kind: str | None = None) -> list[Incident]:
        """The incidents as far as this process knows them, the oldest first; see `refresh`."""
        with self._guard:
            found = list(self._known.values())
        wanted = [one for one in found if state in (None, one.state) and kind in (None, one.kind)]
        return sorted(wanted, key=lambda one: (one.opened_at, one.id))

    def refresh(self) -> None:
        """Read the new events of other processes; create the table if it does not exist.

        Raises: DeltaError, OSError if the store does not answer.
        """
        with self._store:
            self._read()

    def flush(self, within_s: float) -> bool:
        """Wait until all that was recorded is in the lake. Returns: whether it is."""
        with self._guard:
            return self._guard.wait_for(lambda: not self._waiting, timeout=within_s)

    def _record(self, event: Incident) -> None:
        self._known[event.id] = event
        self._waiting.append(event)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="incidents", daemon=True)
            self._thread.start()
        self._guard.notify_all()

    def _serve(self) -> None:
        """Write the waiting events, for as long as the process lives."""
        pause_s = BACKOFF_S
        while True:
            with self._guard:
                self._guard.wait_for(lambda: bool(self._waiting))
            try:
                with self._store:
                    self._write()
            except Exception as error:  # noqa: BLE001 - no failure here may stop the process
                failure = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                if failure != self._failure:
                    log.warning("incidents wait to be recorded: %s", failure)
                self._failure = failure
                time.sleep(pause_s)
                pause_s = min(BACKOFF_MAX_S, 2 * pause_s)
            else:
                self._failure, pause_s = "", BACKOFF_S

    def _write(self) -> None:
        table = self._read()
        with self._guard:
            taken = list(self._waiting)
            new = self._not_recorded(taken)
        if new:
            rows = pa.Table.from_pylist([event.row() for event in new], schema=SCHEMA)
            write_delta(table, rows, mode="append")
        with self._guard:
            self._recorded.update({event.id: event for event in new})
            while self._waiting and any(self._waiting[0] is event for event in taken):
                self._waiting.popleft()
            self._guard.notify_all()
        if new and (table.version() + 1) % COMPACT_COMMITS == 0:
            self._compact(table)

    def _not_recorded(self, events: list[Incident]) -> list[Incident]:
        """The events that change the recorded state, in order."""
        recorded, new = dict(self._recorded), []
        for event in events:
            begins = event.at == event.opened_at
            known = recorded.get(self._same.get(event.id, event.id))
            if known is None and begins:
                known = _open_one(recorded, event.kind, event.name)
                if known is not None:
                    self._same[event.id] = known.id
                    self._known.pop(event.id, None)
                    self._known.setdefault(known.id, known)
            if known is not None:
                if begins or not known.open:
                    continue
                event = replace(event, id=known.id, opened_at=known.opened_at).after(known)
            recorded[event.id] = event
            new.append(event)
        return new

    def _read(self) -> DeltaTable:
        """The table; its rows are known to this process afterwards."""
        if self._table is None:
            self._table, self._files = self._opened(), self._lake.filesystem()
        elif self._has_commit(self._table.version() + 1):
            self._table.update_incremental()
        if self._table.version() != self._version:
            recorded = newest(self._rows(self._table).to_pylist())
            with self._guard:
                self._recorded = recorded
                waiting = {self._same.get(e.id, e.id): e for e in self._waiting}
                self._known = {**recorded, **waiting}
            self._version = self._table.version()
        return self._table

    def _opened(self) -> DeltaTable:
        options = {**self._lake.for_writing().storage_options(), **_PATIENCE}
        # Made if it does not exist, so that SQL finds it before the first incident.
        return DeltaTable.create(
            self._lake.url(PATH),
            schema=SCHEMA,
            mode="ignore",
            configuration={"delta.logRetentionDuration": "interval 1 days"},
            storage_options=options,
        )

    def _has_commit(self, version: int) -> bool:
        # The next commit's name is known: asking for it costs less than listing the log.
        [info] = self._files.get_file_info([f"{PATH}/_delta_log/{version:020d}.json"])
        return bool(info.is_file)

    def _rows(self, table: DeltaTable) -> pa.Table:
        # Not read as a dataset: that part of pyarrow loads pandas, 50 MB without a use here.
        paths = table.get_add_actions(flatten=True)["path"].to_pylist()
        parts = [SCHEMA.empty_table()]
        for path in paths:
            with self._files.open_input_file(f"{PATH}/{path}") as file:
                parts.append(pq.ParquetFile(file).read(columns=SCHEMA.names).cast(SCHEMA))
        return pa.concat_tables(parts)

    def _compact(self, table: DeltaTable) -> None:
        """Join the files and drop rows that are too old; another process may do so meanwhile.

        What others append meanwhile stays: only the files that were read are replaced.
        """
        try:
            table.update_incremental()
            rows = self._rows(table)
            found = list(newest(rows.to_pylist()).values())
            kept = kept_ids(found, since=self._clock() - KEPT, closed_max=CLOSED_MAX)
            wanted = pc.is_in(rows["id"], pa.array(sorted(kept), pa.string()))
            write_delta(table, rows.filter(wanted), mode="overwrite")
            table.update_incremental()
            clean(table)
        except (DeltaError, OSError) as error:
            log.warning("maintenance of %s failed: %s", PATH, error)


def _open_one(incidents: Mapping[str, Incident], kind: str, name: str) -> Incident | None:
    found = (one for one in incidents.values() if (one.kind, one.name) == (kind, name))
    return next((one for one in found if one.open), None)
