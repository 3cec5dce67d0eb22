"""Changes of source tables in a running job: seen in the catalog, applied at their place in the stream.

1. Each batch checks the catalog (`check`). A table that changed gets a `Pending`: its next
   contract, the changes, and where in the stream it begins.
2. Its events are split there (`plan`). Those before are merged under the old contract.
3. At the first event behind the border the policy decides: silver follows, the events wait in
   quarantine, or the table stops.
4. A table without events follows when silver is complete to the LSN of the check.
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
from spark_streaming.contract.contract_files import ContractFileError, Evolution
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.evolution import (
    EVOLVE,
    FAIL,
    NEW_VERSION,
    QUARANTINE,
    SchemaChange,
    changes_between,
    next_version,
    policy_of,
    strictest,
)
from spark_streaming.events.contract_versions import extended, place_of, split_at
from spark_streaming.events.event import Decoded, RawEvent, Reject, is_truncate
from spark_streaming.ops.schema_changes import (
    APPLIED,
    NOTED,
    QUARANTINED,
    STOPPED,
    RecordedChange,
    SchemaChanges,
)
from spark_streaming.ops.stopped import TableStoppedError, stop_table
from spark_streaming.schema.catalog_watch import CatalogCheck, CatalogWatch
from spark_streaming.schema.definitions import (
    Pending,
    after_known,
    queue,
    since_first,
    without_refused,
)
from spark_streaming.schema.event_plan import EventPlan, default_policies
from spark_streaming.schema.left_out_tables import LeftOutTables

if TYPE_CHECKING:
    from spark_streaming.schema.topics import Topic

log = logging.getLogger(__name__)
# How often tables without events are checked.
FULL_CHECK_S = 10.0
# How often a catalog that changes while it is read is read again, at most.
READS_MAX = 5
# Silver's columns and rows stay as they are.
_ONLY_NOTED = frozenset({"enum_value", "replica_identity", "table_dropped"})
_TRUNCATE = SchemaChange("table_truncated", "TRUNCATE")
Policies = Callable[[str, str], Evolution]


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
        self._policies = policies
        self._records = records
        self._clock = clock
        self._full_check_at = -FULL_CHECK_S
        self.left_out = LeftOutTables(watch, records, clock, contracts.tables)

    def full_check_is_due(self) -> bool:
        """Whether tables without events are to be checked, too; a True starts the next interval."""
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
            if topic.stamp is not None and topic.stamp == stamp:
                topic.unchanged_at = seen.after_lsn
                continue
            if topic.gone and stamp is None:
                continue  # since a previous check
            self._read(topic, seen)

    def _stamp(self, seen: CatalogCheck, source: tuple[str, str]) -> str | None:
        """A text that differs when a table changes, or its columns that are carried as text by choice."""
        digest = seen.stamps.get(source)
        return digest and " ".join([digest, *sorted(self._contracts.texts(*source))])

    def _read(self, topic: Topic, seen: CatalogCheck) -> None:
        """Read a table's whole catalog entry, as it is at one moment."""
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
            topic.stamp = None
            if not topic.gone:
                topic.gone, topic.gone_lsn = True, again.by_lsn
                dropped, policy = changes_between(contract, None), self._dropped_policy(topic)
                outcome = STOPPED if policy == FAIL else NOTED
                self._record(topic, dropped, outcome, contract.version, again.by_lsn, policy)
            return
        topic.stamp, topic.gone = self._stamp(seen, topic.source), False
        after, topic.unchanged_at = topic.unchanged_at, again.after_lsn
        while topic.pendings and topic.pendings[-1].contract.refusal:
            # Silver cannot follow that one: the change that repairs it takes its place.
            after = topic.pendings.pop().contract.valid_after_lsn
        newest = topic.pendings[-1].contract if topic.pendings else contract
        found = after_known(newest, noted, found, again.by_lsn)
        steps = [*without_refused(noted, found), found]
        queue(topic.pendings, contract, steps, after, again.by_lsn)
        if next_version(contract, found) is contract and self._must_wait(topic):
            log.info("table %s is as it was before again", topic.silver_name)
            topic.pendings.clear()

    def _noted(self, topic: Topic, found: Contract | None) -> list[Contract]:
        """The definitions that the source noted since the newest one that is known here."""
        last = topic.contract
        for pending in topic.pendings:
            last = last if pending.contract.refusal else pending.contract
        since = topic.unchanged_at or None  # the source notes them since then only, perhaps
        if last is not None and last.noted_lsn is not None:
            since = last.noted_lsn
        if found is None or found.noted_lsn is None or since is None or found.noted_lsn <= since:
            return []
        return self._contracts.noted(found.schema, found.table, since)

    def _must_wait(self, topic: Topic) -> bool:
        """Whether the policy of some pending change keeps silver from following."""
        return any(
            pending.contract.refusal or self._policy(topic, pending) not in (EVOLVE, NEW_VERSION)
            for pending in topic.pendings
        )

    def _dropped_policy(self, topic: Topic) -> str:
        try:
            return policy_of(self._evolution(topic), "table_dropped")
        except TableStoppedError:
            return EVOLVE  # its file is wrong, and there are no events that would wait for it

    def refuse_dropped(self, topic: Topic) -> None:
        """Raise TableStoppedError if the source dropped the table and its policy is to fail."""
        if topic.gone and self._dropped_policy(topic) == FAIL:
            stop_table(
                "the source dropped the table, and its policy for table_dropped is fail",
                hint="silver has its last rows; `evolve` keeps them without a word, and a table of "
                "that name that comes again goes on here",
            )

    def before_first(self, topic: Topic) -> None:
        """Note what the catalog shows before a table's first contract is read from it."""
        seen = self._watch.check([topic.source])
        topic.stamp, topic.unchanged_at = self._stamp(seen, topic.source), seen.after_lsn

    def beginning(self, topic: Topic, found: Contract, events: list[RawEvent]) -> Contract:
        """The contract of a new table's first events; later definitions become pending.

        `found` itself where the source notes no definitions, or the events have no position.
        """
        if not found.noted_lsn:
            return found
        noted = self._contracts.noted(found.schema, found.table, 0)
        first, *later = since_first(noted, found, events, topic.reached)
        first, at = next_version(None, first), topic.unchanged_at
        queue(topic.pendings, first, later, at, at)
        return first

    def first(self, topic: Topic, found: Contract) -> bool:
        """Whether the policy admits a table that was never seen; otherwise it is pending."""
        changes = tuple(changes_between(None, found))
        pending = Pending(found, changes, None)
        if self._policy(topic, pending) != EVOLVE:
            topic.pendings = [pending]
            return False
        self._record(topic, changes, APPLIED, 1, found.valid_from_lsn, later=True)
        return True

    def plan(self, topic: Topic, events: list[RawEvent]) -> EventPlan:
        """Split a topic's events where a change of its table begins.

        Raises: TableStoppedError where the table must not go on.
        """
        rejects = list[Reject]()
        events = self._without_truncates(topic, events, rejects)
        steps = []
        for pending in topic.pendings:
            border = pending.boundary
            older, newer = split_at(events, border) if border else ([], events)
            if not newer:
                break
            refusal = pending.contract.refusal
            policy = self._policy(topic, pending)
            if refusal or policy == FAIL:
                self._record_pending(topic, pending, STOPPED)
                reason, hint = _split_hint(refusal) if refusal else self._failure(topic, pending)
                stop_table(reason, hint=hint)
            if policy == QUARANTINE:
                self._record_pending(topic, pending, QUARANTINED)
                rule, reason = self._reason(topic, pending)
                waiting = [event for event in newer if event.value is not None]
                rejects += [Reject(event, rule, reason) for event in waiting]
                events = older
                break
            steps.append((older, pending))
            events = newer
        return EventPlan(events, steps, rejects)

    def move_border(self, topic: Topic, rejects: Iterable[Reject]) -> bool:
        """Move the border of the next change before events that do not fit the current types.

        Transactions alone do not always decide: one may have begun before the change's, or the
        change was made below a savepoint. Returns: whether to split the events again.
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
        topic.pendings[0] = replace(pending, boundary=border)
        return True

    def _without_truncates(
        self, topic: Topic, events: list[RawEvent], rejects: list[Reject]
    ) -> list[RawEvent]:
        policy = policy_of(self._evolution(topic), "table_truncated")
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
        self._record(topic, change, outcome, version, lsn or 0)
        if policy == FAIL:
            stop_table(
                f"the source's table was truncated ({detail}), and its policy for table_truncated "
                "is fail",
                hint="in its contract file, `evolve` empties silver's table too, and `quarantine` "
                "keeps its rows; then it goes on by itself",
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
                    self._record(topic, changes, APPLIED, version, change.lsn, later=True)

    def how(self, topic: Topic) -> str | None:
        """The policy by which the pending change may be applied now; None: it has to wait."""
        if (pending := topic.pending) is None or pending.contract.refusal:
            return None
        policy = self._policy(topic, pending)
        return policy if policy in (EVOLVE, NEW_VERSION) else None

    def waits(self, topic: Topic) -> str:
        """Why the pending change is not applied; empty where none is pending."""
        if topic.pending is None:
            return ""
        return topic.pending.contract.refusal or self._reason(topic, topic.pending)[1]

    def record_applied(self, topic: Topic, pending: Pending) -> None:
        """Record that silver follows a change now."""
        for change in pending.changes:
            outcome = NOTED if change.kind in _ONLY_NOTED else APPLIED
            self._record_pending(topic, pending, outcome, [change])

    def flush(self) -> None:
        """Write the records that could wait until now."""
        if self._records is not None:
            self._records.flush()

    def _evolution(self, topic: Topic) -> Evolution:
        """What the table's contract file says. Raises: TableStoppedError where it is wrong."""
        try:
            return self._policies(*topic.source)
        except ContractFileError as error:
            stop_table(f"its contract file is wrong\n{error}")

    def _policy(self, topic: Topic, pending: Pending) -> str:
        evolution = self._evolution(topic)
        return strictest(policy_of(evolution, change.kind) for change in pending.changes)

    def _reason(self, topic: Topic, pending: Pending) -> tuple[str, str]:
        evolution = self._evolution(topic)
        policies = [(policy_of(evolution, change.kind), change) for change in pending.changes]
        strict = strictest(policy for policy, _ in policies)
        those = [change for policy, change in policies if policy == strict]
        detail = "; ".join(f"{change.kind}: {change.detail}" for change in those)
        return those[0].kind, f"the table changed ({detail}), and the policy for that is {strict}"

    def _failure(self, topic: Topic, pending: Pending) -> tuple[str, str]:
        kind, reason = self._reason(topic, pending)
        return reason, (
            f"set `{kind}` under [evolution] in its contract file to another policy, or undo the "
            "change in the source; the table then goes on where it stopped"
        )

    def _record_pending(
        self,
        topic: Topic,
        pending: Pending,
        outcome: str,
        changes: Iterable[SchemaChange] | None = None,
    ) -> None:
        self._record(
            topic,
            pending.changes if changes is None else changes,
            outcome,
            pending.contract.version,
            pending.contract.valid_from_lsn,
            from_version=pending.contract.version - 1,
        )

    def _record(
        self,
        topic: Topic,
        changes: Iterable[SchemaChange],
        outcome: str,
        to_version: int,
        lsn: int,
        policy: str | None = None,
        *,
        from_version: int | None = None,
        later: bool = False,
    ) -> None:
        if self._records is None:
            return
        if from_version is None:
            from_version = topic.contract.version if topic.contract else 0
        found = [
            RecordedChange(
                topic.silver_name,
                change.kind,
                from_version,
                to_version,
                lsn,
                policy or policy_of(self._evolution(topic), change.kind),
                outcome,
                change.detail,
                change.warning,
            )
            for change in changes
        ]
        if later:
            self._records.note(found)
        else:
            self._records.put(found)


def _split_hint(refusal: str) -> tuple[str, str]:
    """A contract's refusal as what was observed and what to do."""
    reason, _, hint = refusal.partition("\nhint: ")
    return reason, hint
