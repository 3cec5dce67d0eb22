"""Records the outcome of each change of a table in `ops.schema_changes`."""

from __future__ import annotations

from collections.abc import Iterable

from spark_streaming.contract.evolution import SchemaChange
from spark_streaming.contract.lsn import Lsn
from spark_streaming.ops.schema_changes import APPLIED, NOTED, RecordedChange, SchemaChanges
from spark_streaming.schema.change_policies import ChangePolicies
from spark_streaming.schema.definitions import Pending
from spark_streaming.schema.topic import Topic

# Kinds of change that leave silver's columns and rows as they are.
_ONLY_NOTED = frozenset({"enum_value", "replica_identity", "table_dropped"})


class ChangeRecords:
    """Records changes with their policies; does nothing if `records` is None."""

    def __init__(self, records: SchemaChanges | None, policies: ChangePolicies) -> None:
        self._records = records
        self._policies = policies

    def put(
        self,
        topic: Topic,
        changes: Iterable[SchemaChange],
        outcome: str,
        to_version: int,
        lsn: Lsn,
        *,
        policy: str | None = None,
        from_version: int | None = None,
        later: bool = False,
    ) -> None:
        """Record changes of a table at a log position; with `later`, at the next `flush`."""
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
                policy or self._policies.of_kind(topic, change.kind),
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

    def put_pending(
        self,
        topic: Topic,
        pending: Pending,
        outcome: str,
        changes: Iterable[SchemaChange] | None = None,
    ) -> None:
        """Record the outcome of a pending change, or of some of its parts."""
        self.put(
            topic,
            pending.changes if changes is None else changes,
            outcome,
            pending.contract.version,
            pending.contract.valid_from_lsn,
            from_version=pending.contract.version - 1,
        )

    def put_applied(self, topic: Topic, pending: Pending) -> None:
        """Record that silver now follows a change."""
        for change in pending.changes:
            outcome = NOTED if change.kind in _ONLY_NOTED else APPLIED
            self.put_pending(topic, pending, outcome, [change])

    def flush(self) -> None:
        """Write the records that were put with `later`."""
        if self._records is not None:
            self._records.flush()
