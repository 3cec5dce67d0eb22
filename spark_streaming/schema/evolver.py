"""Applies changes of source tables in a running job: at the position in the stream where each begins.

1. Each batch checks the catalog (`check`). A table that changed gets a `Pending`: its next
   contract, the changes, and where in the stream it begins.
2. Its events are split there (`plan`). Those before that place are merged under the old contract.
3. At the first event after it, the policy decides: silver follows, the events wait in quarantine,
   or the table stops.
4. A table without events follows once silver is complete to the LSN of the check.
The outcome of each change is recorded (`schema_changes`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.evolution import (
    EVOLVE,
    FAIL,
    QUARANTINE,
    SchemaChange,
    changes_between,
    next_version,
)
from spark_streaming.contract.lsn import LOG_START, Lsn
from spark_streaming.events.contract_versions import extended, place_of, split_at
from spark_streaming.events.event import Decoded, RawEvent, Reject, is_truncate
from spark_streaming.ops.schema_changes import (
    APPLIED,
    NOTED,
    QUARANTINED,
    STOPPED,
    SchemaChanges,
)
from spark_streaming.ops.stopped import stop_table
from spark_streaming.schema.catalog_watch import CatalogCheck, CatalogWatch
from spark_streaming.schema.change_policies import ChangePolicies, Policies, default_policies
from spark_streaming.schema.change_records import ChangeRecords
from spark_streaming.schema.definitions import (
    Pending,
    after_known,
    queue,
    since_first,
    without_refused,
)
from spark_streaming.schema.event_plan import EventPlan
from spark_streaming.schema.left_out_tables import LeftOutTables

if TYPE_CHECKING:
    from spark_streaming.schema.topic import Topic

log = logging.getLogger(__name__)
# How often tables without events are checked.
FULL_CHECK_S = 10.0
# How often, at most, a catalog that changes during the read is read again.
READS_MAX = 5
_TRUNCATE = SchemaChange("table_truncated", "TRUNCATE")


class Evolver:
    """Notices changes of source tables and applies their policies."""

    def __init__(
        self,
        contracts: ContractStore,
        watch: CatalogWatch,
        policies: Policies = default_policies,
        records: SchemaChanges | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contracts = contracts
        self._watch = watch
        self._policies = ChangePolicies(policies)
        self.records = ChangeRecords(records, self._policies)
        self._clock = clock
        self._full_check_at = -FULL_CHECK_S
        self.left_out = LeftOutTables(watch, records, clock, contracts.tables)

    def full_check_is_due(self) -> bool:
        """Whether to check tables without events, too; returning True starts the next interval."""
        now = self._clock()
        due = now - self._full_check_at >= FULL_CHECK_S
        if due:
            self._full_check_at = now
        return due

    def check(self, topics: Iterable[Topic]) -> None:
        """Find which of these tables changed. Raises: CatalogUnreachableError."""
        named = {topic.source: topic for topic in topics if topic.contract and not topic.refusal}
        if not named:
            return
        seen = self._watch.check(named)
        for source, topic in named.items():
            stamp = self._stamp(seen, source)
            if topic.catalog.stamp is not None and topic.catalog.stamp == stamp:
                topic.seen(stamp, seen.after_lsn)
                continue
            if topic.gone and stamp is None:
                continue  # a previous check has seen this
            self._read(topic, seen)

    def _stamp(self, seen: CatalogCheck, source: tuple[str, str]) -> str | None:
        """A text that changes when a table's definition, or its columns carried as text, change."""
        digest = seen.stamps.get(source)
        return digest and " ".join([digest, *sorted(self._contracts.texts(*source))])

    def _read(self, topic: Topic, seen: CatalogCheck) -> None:
        """Read a table's whole catalog entry as it is at a single moment."""
        contract = topic.contract
        assert contract is not None
        for _ in range(READS_MAX):
            found = self._contracts.in_source(*topic.source)
            noted = self._noted(topic, found)
            again = self._watch.check([topic.source])
            if again.stamps.get(topic.source) == seen.stamps.get(topic.source):
                break
            seen = again
        if found is None:
            if not topic.gone:
                dropped, policy = changes_between(contract, None), self._policies.of_drop(topic)
                outcome = STOPPED if policy == FAIL else NOTED
                version = contract.version
                self.records.put(topic, dropped, outcome, version, again.by_lsn, policy=policy)
            topic.dropped(again.by_lsn)
            return
        after, pendings = topic.catalog.unchanged_at, list(topic.pendings)
        while pendings and pendings[-1].contract.refusal:
            # Silver cannot follow the pending change: the one that repairs it takes its place.
            after = pendings.pop().contract.valid_after_lsn
        newest = pendings[-1].contract if pendings else contract
        found = after_known(newest, noted, found, again.by_lsn)
        steps = [*without_refused(noted, found), found]
        queue(pendings, contract, steps, after, again.by_lsn)
        topic.expect(pendings)
        topic.seen(self._stamp(seen, topic.source), again.after_lsn)
        if next_version(contract, found) is contract and any(
            self._policies.how(topic, pending) is None for pending in pendings
        ):
            log.info("table %s has its previous definition again", topic.silver_name)
            topic.expect([])

    def _noted(self, topic: Topic, found: Contract | None) -> list[Contract]:
        """The definitions that the source noted after the newest one that is known here."""
        last = topic.contract
        for pending in topic.pendings:
            last = last if pending.contract.refusal else pending.contract
        since = topic.catalog.unchanged_at or None  # the source may have begun its notes only then
        if last is not None and last.noted_lsn is not None:
            since = last.noted_lsn
        if found is None or found.noted_lsn is None or since is None or found.noted_lsn <= since:
            return []
        return self._contracts.noted(found.schema, found.table, since)

    def refuse_dropped(self, topic: Topic) -> None:
        """Raise TableStoppedError if the source dropped the table and its policy is to fail."""
        if topic.gone and self._policies.of_drop(topic) == FAIL:
            stop_table(
                "the source dropped the table, and its policy for table_dropped is fail",
                hint="silver keeps its last rows; with `evolve` it keeps them without stopping the "
                "table, and a new table of that name continues here",
            )

    def before_first(self, topic: Topic) -> None:
        """Record the catalog's state before a table's first contract is read from it."""
        seen = self._watch.check([topic.source])
        topic.seen(self._stamp(seen, topic.source), seen.after_lsn)

    def beginning(self, topic: Topic, found: Contract, events: list[RawEvent]) -> Contract:
        """The contract of a new table's first events; later definitions become pending.

        Returns `found` itself if the source notes no definitions or the events have no position.
        """
        if not found.noted_lsn:
            return found
        noted = self._contracts.noted(found.schema, found.table, LOG_START)
        first, *later = since_first(noted, found, events, topic.reached)
        first, at = next_version(None, first), topic.catalog.unchanged_at
        pendings = list(topic.pendings)
        queue(pendings, first, later, at, at)
        topic.expect(pendings)
        return first

    def first(self, topic: Topic, found: Contract) -> bool:
        """Whether the policy admits a new table; if not, its contract becomes pending."""
        changes = tuple(changes_between(None, found))
        pending = Pending(found, changes, None)
        if self._policies.of(topic, pending) != EVOLVE:
            topic.expect([pending])
            return False
        self.records.put(topic, changes, APPLIED, 1, found.valid_from_lsn, later=True)
        return True

    def plan(self, topic: Topic, events: list[RawEvent]) -> EventPlan:
        """Split a topic's events at the place where a change of its table begins.

        Raises: TableStoppedError if the table must not go on.
        """
        rejects = list[Reject]()
        events = self._without_truncates(topic, events, rejects)
        steps = []
        for pending in topic.pendings:
            border = pending.boundary
            older, newer = split_at(events, border) if border else ([], events)
            if not newer:
                break
            policy = self._policies.of(topic, pending)
            if pending.contract.refusal or policy == FAIL:
                self.records.put_pending(topic, pending, STOPPED)
                reason, hint = self._policies.failure(topic, pending)
                stop_table(reason, hint=hint)
            if policy == QUARANTINE:
                self.records.put_pending(topic, pending, QUARANTINED)
                rule, reason = self._policies.reason(topic, pending)
                waiting = [event for event in newer if event.value is not None]
                rejects += [Reject(event, rule, reason) for event in waiting]
                events = older
                break
            steps.append((older, pending))
            events = newer
        return EventPlan(events, steps, rejects)

    def move_border(self, topic: Topic, rejects: Iterable[Reject]) -> bool:
        """Move the border of the next change before events that do not fit the current types.

        The transaction of an event does not always decide: it may have begun before that of the
        change, or the change came below a savepoint. Returns: whether to split the events again.
        """
        pending = topic.pending
        if pending is None or pending.boundary is None:
            return False
        if not any(c.kind in ("widen_type", "incompatible_change") for c in pending.changes):
            return False
        unfit = [r.event for r in rejects if r.rule in ("value-out-of-range", "wrong-type")]
        border = extended(pending.boundary, unfit)
        if border == pending.boundary:
            return False
        topic.expect([replace(pending, boundary=border), *topic.pendings[1:]])
        return True

    def _without_truncates(
        self, topic: Topic, events: list[RawEvent], rejects: list[Reject]
    ) -> list[RawEvent]:
        policy = self._policies.of_kind(topic, "table_truncated")
        if policy == EVOLVE:
            return events
        found = [event for event in events if is_truncate(event)]
        if not found:
            return events
        detail = f"TRUNCATE, {len(found)} event(s)"
        change = [SchemaChange("table_truncated", detail)]
        version = topic.contract.version if topic.contract else 0
        outcome = STOPPED if policy == FAIL else QUARANTINED
        lsn, _ = place_of(orjson.loads(found[0].value or b"{}"))
        self.records.put(topic, change, outcome, version, Lsn(lsn or 0))
        if policy == FAIL:
            stop_table(
                f"the source's table was truncated ({detail}), and its policy for table_truncated "
                "is fail",
                hint="set the policy in its contract file: `evolve` empties silver's table too, "
                "`quarantine` keeps its rows; the table then continues by itself",
            )
        reason = "TRUNCATE: the policy for table_truncated is quarantine; silver keeps its rows"
        rejects += [Reject(event, "table_truncated", reason) for event in found]
        return [event for event in events if not is_truncate(event)]

    def truncated(self, topic: Topic, decoded: Decoded) -> None:
        """Note a TRUNCATE that silver applies."""
        if decoded.depends_on_other_keys and topic.contract is not None:
            for change in decoded.changes.changes:
                if change.op == "t":
                    changes, version = [_TRUNCATE], topic.contract.version
                    self.records.put(topic, changes, APPLIED, version, change.lsn, later=True)

    def how(self, topic: Topic) -> str | None:
        """The policy that lets the pending change be applied now; None if it has to wait."""
        return self._policies.how(topic, topic.pending) if topic.pending else None

    def waits(self, topic: Topic) -> str:
        """Why the pending change is not applied; empty if none is pending."""
        if topic.pending is None:
            return ""
        return topic.pending.contract.refusal or self._policies.reason(topic, topic.pending)[1]
