"""Applies contract files to a batch: judges rows, quarantines rejects, counts broken rules."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from spark_streaming.batch.part import Failed, Judged, Merged, Prepared, Validated
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.events.event import Decoded, Reject
from spark_streaming.fold.row_lookup import present_keys, values_of
from spark_streaming.ops.breaches import Breach, Breaches
from spark_streaming.ops.stopped import TableStoppedError, stop_table
from spark_streaming.quarantine.quarantine import SUPERSEDED, Quarantine
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows, place_of
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.rules.lookup_rules import InBatch, reference_findings
from spark_streaming.rules.rules import TableRules
from spark_streaming.rules.screen import Screened, quarantined_columns, screen
from spark_streaming.schema.topic import Topic
from spark_streaming.schema.topics import Topics
from spark_streaming.tables.engine_protocol import MergeResult

_REPAIR = "correct the rows in the source, or the rule in the contract file; see `contract check`"


class Gate:
    """Applies contract files to the parts of a batch, and remembers what is in quarantine."""

    def __init__(
        self,
        contracts: ContractFolder,
        quarantine: Quarantine,
        breaches: Breaches | None,
        topics: Topics,
    ) -> None:
        self.contracts = contracts
        self.quarantine = quarantine
        self._breaches = breaches
        self._topics = topics
        self.found: list[Breach] = []  # the rules broken in the newest batch

    def begin(self) -> None:
        """Forget the broken rules of the last batch."""
        self.found = []

    def quarantined(self, topic: Topic) -> QuarantinedRows:
        """The quarantined rows of a table, read when this process meets its first event."""
        if topic.quarantined is None:
            if topic.contract is None:
                return QuarantinedRows()
            rows = self.quarantine.quarantined(topic.silver_name, topic.contract)
            topic.read_quarantine(rows)
            return rows
        return topic.quarantined

    def is_plain(self, topic: Topic) -> bool:
        """Whether a table has neither a contract file nor unresolved entries in quarantine.

        The events of such a table only need decoding and folding, so executors may take them.
        """
        return not self.contracts.stamp(topic.schema, topic.table) and not len(
            self.quarantined(topic)
        )

    def judge(self, topic: Topic, decoded: Decoded) -> Judged:
        """Fold decoded events and apply their table's own rules, under its silver table's lock.

        Raises: TableStoppedError if a rule, or the contract file, stops the table.
        """
        contract, silver = topic.contract, topic.silver
        assert contract is not None and silver is not None
        try:
            rules = self.contracts.rules_of(contract)
        except ContractFileError as error:
            stop_table(f"its contract file is wrong\n{error}")
        fresh = QuarantinedRows()
        fresh.add([reject.event for reject in decoded.rejects], contract)
        screened = screen(
            decoded,
            contract,
            rules,
            self.contracts.mask_secret,
            lambda keys: values_of(silver, keys),
            lambda keys: present_keys(silver, keys),
            quarantined_columns(self.quarantined(topic), fresh),
            silver.handle,
        )
        if screened.failure:
            stop_table(screened.failure, hint=_REPAIR)
        return Judged(screened, rules, fresh)

    def validate(self, parts: Sequence[Prepared]) -> list[Validated | Failed]:
        """Apply the rules that refer to other tables; all parts must be folded already."""
        tables = {
            (part.taken.topic.schema, part.taken.topic.table): part.judged.screened.folded.rows
            for part in parts
            if part.judged is not None
        }

        def in_batch(schema: str, table: str) -> pa.Table | None:
            return tables.get((schema, table))

        return [
            Validated(part, part.rejects)
            if part.judged is None
            else self._validated(part, part.judged, in_batch)
            for part in parts
        ]

    def _validated(self, part: Prepared, judged: Judged, in_batch: InBatch) -> Validated | Failed:
        topic, rules, screened = part.taken.topic, judged.rules, judged.screened
        assert topic.contract is not None
        screened = self.refer(screened, topic.contract, rules, in_batch)
        if screened.failure:
            error = TableStoppedError(f"{screened.failure}\n  hint: {_REPAIR}")
            return Failed(Merged(part.taken, result=part.result), error)
        closed = screened.supersedes(self.quarantined(topic), judged.fresh)
        breaches = [
            Breach(topic.silver_name, rule, rules.actions()[rule], count, part.taken.rows_in)
            for rule, count in sorted(screened.counts.items())
        ]
        return Validated(part, screened.rejects, closed, breaches, screened.folded)

    def refer(
        self, screened: Screened, contract: Contract, rules: TableRules, in_batch: InBatch
    ) -> Screened:
        """Apply the rules of one table that refer to others."""
        if not rules.references or not len(screened.folded.rows):
            return screened
        found = reference_findings(screened.folded, rules, self._topics.open_silver, in_batch)
        return screened.concluded(contract, rules, found)

    def quarantine_rejects(self, parts: Sequence[Validated], batch_id: int | None) -> None:
        """Write rejects and broken rules; a repetition with the same `batch_id` changes nothing.

        Superseded entries are closed before the merge; after a crash between the two, the
        repeated batch merges.

        Args:
            batch_id: names the commit. Without it, only missing entries are written, and a
                repetition counts broken rules again.
        """
        closed = {place for part in parts for place in part.closed}
        rejects: dict[str, Sequence[Reject]] = {
            part.topic.silver_name: part.rejects for part in parts if part.rejects
        }
        if rejects and batch_id is not None:
            self.quarantine.put(rejects, batch_id, closed)
        elif rejects:
            for name, some in rejects.items():
                self.quarantine.put_missing(name, some, closed)
        older = closed - {place_of(r.event) for some in rejects.values() for r in some}
        if older:
            self.quarantine.close(older, SUPERSEDED)
        found = [breach for part in parts for breach in part.breaches]
        self.found += found
        if self._breaches is not None:
            self._breaches.put(found, batch_id)

    def remember(self, part: Validated, result: MergeResult | None) -> None:
        """Remember which rows a merged part quarantined and superseded, for later batches."""
        topic = part.topic
        if part.folded is None or topic.contract is None:
            if result is not None and result.skipped:
                topic.read_quarantine(None)  # an earlier attempt wrote its entries: read them again
            return
        if not (part.rejects or part.closed):
            return
        quarantined = self.quarantined(topic)
        quarantined.remove(part.closed)
        kept = [r.event for r in part.rejects if place_of(r.event) not in part.closed]
        quarantined.add(kept, topic.contract)
