"""Replays events from quarantine into silver, after their cause is fixed or with corrected values.

Three rules keep the order:
- An entry becomes `superseded` in the batch that merges a newer event of its row (see
  `quarantined_rows`), even if that is a delete, which leaves no trace in silver.
- All open entries of a row are replayed together and folded as in a batch: the last one counts,
  and takes the values that it leaves out from the previous ones.
- The result does not replace a row of silver with a higher LSN (`screen.at_lsn`).
An event that is replayed with corrected values (`edits`) keeps its position in that order.
The job replays between two batches, so nothing else is merged at the same time.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from spark_streaming.batch.table_steps import TableSteps
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.events.envelope import decode
from spark_streaming.events.event import Decoded, Place, RawEvent, RawKey, is_truncate
from spark_streaming.events.position import HighWater
from spark_streaming.fold.keyed import Folded
from spark_streaming.fold.row_lookup import keys_in, lsns_of, present_keys, values_of
from spark_streaming.ops.requests import Answer, Outcome, Request
from spark_streaming.quarantine.edits import EditError, edited
from spark_streaming.quarantine.quarantine import DISCARDED, OPEN, REPLAYED, SUPERSEDED
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows, describe, place_of
from spark_streaming.rules.screen import Screened, at_lsn, quarantined_columns, screen
from spark_streaming.schema.topic import Topic
from spark_streaming.tables.engine_protocol import Commit, MergeResult

log = logging.getLogger(__name__)
# The most rows in one merge; all events of a row are in the same merge.
ROWS_MAX = 5_000


@dataclass
class _Table:
    """One table's unresolved entries: by row, in the order of their offsets."""

    topic: Topic
    contract: Contract
    rows: dict[RawKey, list[RawEvent]] = field(default_factory=dict)
    discarded: QuarantinedRows = field(default_factory=QuarantinedRows)
    waits: str = ""  # why a change of the source's table is not applied
    edits: dict[Place, dict[str, str | None]] = field(default_factory=dict)


class Replay:
    """Carries out requests to replay or discard entries, in the process that writes silver."""

    def __init__(
        self,
        steps: TableSteps,
        is_stopped: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._is_stopped = is_stopped
        self._gate = steps.gate
        self._topics = steps.topics
        self._engine = steps.engine
        self.merged: list[tuple[Topic, MergeResult, str]] = []

    def carry_out(self, request: Request) -> Answer:
        """Carry a request out; if that fails, the answer says why and the entries stay open."""
        try:
            tables = request.tables or tuple(sorted(self._gate.quarantine.open_tables()))
            outcomes: list[Outcome] = []
            for name in tables:
                outcomes += self._one_table(name, request)
            return Answer(outcomes)
        except Exception as error:  # noqa: BLE001 - the answer says it, and the batches continue
            log.warning("request %s failed: %s: %s", request.id, type(error).__name__, error)
            return Answer([], f"{type(error).__name__}: {error}")

    def _one_table(self, name: str, request: Request) -> list[Outcome]:
        table = self._open(name, set(request.places))
        if table is None:
            return []
        if request.action == "discard":
            places = [place_of(event) for events in table.rows.values() for event in events]
            self._gate.quarantine.close(places, DISCARDED)
            return [Outcome(name, place, "discarded") for place in places]
        reason = ""
        if self._is_stopped(table.topic.name):
            # Later events that the table has not merged yet may supersede these entries.
            reason = f"the table is stopped; run `headwater resume {name}` first"
        elif table.waits:
            reason = table.waits
        elif table.contract.is_keyless:
            # A later removal of this row found no copy in silver, and left no trace.
            reason = (
                "the table has no key, so nothing shows whether later events removed the row; "
                f"`headwater rebuild {name}` merges all its events again in order, including "
                "those in quarantine"
            )
        if reason:
            events = [event for some in table.rows.values() for event in some]
            return [Outcome(name, place_of(event), "open", reason) for event in events]
        outcomes = self._edit(name, table, request)
        rows = list(table.rows.values())
        for start in range(0, len(rows), ROWS_MAX):
            events = [event for some in rows[start : start + ROWS_MAX] for event in some]
            outcomes += self._merge(table, events)
        return outcomes

    def _edit(self, name: str, table: _Table, request: Request) -> list[Outcome]:
        """Edit events as requested. Returns: the outcomes of rows that cannot be edited so."""
        wanted = dict(request.edits)
        outcomes = []
        for key, events in list(table.rows.items()):
            try:
                found = [
                    edited(event, wanted[place_of(event)], table.contract)
                    if place_of(event) in wanted
                    else event
                    for event in events
                ]
            except EditError as error:
                del table.rows[key]
                outcomes += [Outcome(name, place_of(event), "open", str(error)) for event in events]
                continue
            table.rows[key] = found
            table.edits |= {
                place: values
                for event in events
                if (values := wanted.get(place := place_of(event))) is not None
            }
        return outcomes

    def _open(self, name: str, wanted: set[Place]) -> _Table | None:
        """The table's open entries; if some are `wanted`, only those of the same rows."""
        table: _Table | None = None
        named: set[RawKey] = set()
        for found in self._gate.quarantine.unresolved(name):
            if table is None:
                topic = self._topics.resolve(found.event.topic, [found.event])
                waits = self._topics.apply_all_pending(topic)
                if topic.contract is None or topic.silver is None:
                    raise ValueError(f"table {name} is not merged: {topic.refusal or waits}")
                table = _Table(topic, topic.contract, waits=waits)
            if found.status != OPEN:
                table.discarded.add([found.event], table.contract)
                continue
            key, entry = describe(found.event, table.contract)
            if entry.place in wanted:
                named.add(key)
            table.rows.setdefault(key, []).append(found.event)
        if table is not None:
            for key, events in list(table.rows.items()):
                if wanted and key not in named:
                    del table.rows[key]
                else:
                    once = {place_of(event): event for event in events}
                    table.rows[key] = sorted(once.values(), key=place_of)
        return table

    def _merge(self, table: _Table, events: list[RawEvent]) -> list[Outcome]:
        """Take events of some rows through the rules, merge them, and resolve their entries."""
        name = table.topic.silver_name
        try:
            screened = self._screened(table, events)
        except ContractFileError as error:
            return [Outcome(name, place_of(e), "open", str(error)) for e in events]
        if screened.failure:
            return [Outcome(name, place_of(e), "open", screened.failure) for e in events]
        outcomes = self._judged(table, events, screened)
        self._write(table.topic, screened.folded)
        self._resolve(table, outcomes)
        return outcomes

    def _screened(self, table: _Table, events: list[RawEvent]) -> Screened:
        """Decode, fold and judge events. Raises: ContractFileError."""
        silver = table.topic.silver
        assert silver is not None
        rules = self._gate.contracts.rules_of(table.contract)
        decoded = self._decode(table, events)
        fresh = QuarantinedRows()
        fresh.add([reject.event for reject in decoded.rejects], table.contract)
        with silver.lock:
            screened = screen(
                decoded,
                table.contract,
                rules,
                self._gate.contracts.mask_secret,
                lambda keys: values_of(silver, keys),
                lambda keys: present_keys(silver, keys),
                quarantined_columns(table.discarded, fresh),
                silver.handle,
            )
        return self._gate.refer(screened, table.contract, rules, lambda *_: None)

    def _write(self, topic: Topic, folded: Folded) -> None:
        """Merge the folded rows, if there is anything to merge."""
        silver = topic.silver
        assert silver is not None
        if not len(folded.rows) and folded.truncate_lsn is None:
            return
        # Each commit gets a new id: to merge rows again is harmless, but a repeated request may
        # have fewer rows, and must not be skipped as the same commit.
        commit = Commit(f"headwater:replay:{uuid.uuid4().hex}", 0)
        with silver.lock:
            result = self._engine.merge(silver, folded, commit)
        self.merged.append((topic, result, self._engine.name))

    def _resolve(self, table: _Table, outcomes: list[Outcome]) -> None:
        """Give the entries their new status, after the merge."""
        for outcome in outcomes:
            # Noted before the entry is closed, since an interrupted request is repeated whole.
            if outcome.outcome == REPLAYED and outcome.place in table.edits:
                values = table.edits[outcome.place]
                self._gate.quarantine.note_values(table.topic.silver_name, outcome.place, values)
        for status in (REPLAYED, SUPERSEDED):
            places = [o.place for o in outcomes if o.outcome == status]
            self._gate.quarantine.close(places, status)
            self._gate.quarantined(table.topic).remove(places)

    def _decode(self, table: _Table, events: list[RawEvent]) -> Decoded:
        # Without high-water marks, events that were read before do not count as repetitions.
        decoded = decode(events, table.contract, HighWater())
        if self._topics.follow(table.topic, decoded.unknown_columns, decoded.stale_columns):
            assert table.topic.contract is not None
            table.contract = table.topic.contract
            decoded = decode(events, table.contract, HighWater())
        return at_lsn(decoded)

    def _judged(
        self, table: _Table, events: Iterable[RawEvent], screened: Screened
    ) -> list[Outcome]:
        """The outcome of each event: still rejected, superseded, or replayed."""
        name = table.topic.silver_name
        reasons = {place_of(r.event): f"{r.rule}: {r.reason}" for r in screened.rejects}
        origin = screened.folded.origin
        finals = {change.key: change for change in origin.changes} if origin is not None else {}
        older = self._older_than_silver(table, screened)
        stuck: dict[RawKey, str] = {}
        keys = [describe(event, table.contract)[0] for event in events]
        for event, key in zip(events, keys, strict=True):
            if place_of(event) in reasons:
                stuck[key] = reasons[place_of(event)]
        outcomes = []
        for event, key in zip(events, keys, strict=True):
            place, final = place_of(event), finals.get(key)
            if screened.folded.truncate_lsn is not None and is_truncate(event):
                outcomes.append(Outcome(name, place, "replayed"))
            elif final is None:
                reason = reasons.get(place) or stuck.get(key) or "it no longer changes a row"
                outcomes.append(Outcome(name, place, "open", reason))
            elif place in reasons and place.offset > final.event.offset:
                outcomes.append(Outcome(name, place, "open", reasons[place]))
            elif place in reasons or key in older:
                outcomes.append(Outcome(name, place, "superseded"))
            else:
                outcomes.append(Outcome(name, place, "replayed"))
        return outcomes

    def _older_than_silver(self, table: _Table, screened: Screened) -> set[RawKey]:
        """The keys of rows that silver has newer; the merge does not change those."""
        origin, silver = screened.folded.origin, table.topic.silver
        if origin is None or silver is None:
            return set()
        names = list(table.contract.key)
        rows = screened.folded.rows.select([*names, "_lsn"])
        keys = keys_in(rows, names)
        lsns = lsns_of(silver, keys)
        return {
            change.key
            for change, key, lsn in zip(origin.changes, keys, rows["_lsn"].to_pylist(), strict=True)
            if lsns.get(key, -1) > lsn
        }
