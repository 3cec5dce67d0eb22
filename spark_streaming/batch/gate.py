"""Applies contract files in a batch: rules, quarantine, and the counts of broken rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from spark_streaming.contract.contract_files import ContractFileError
from spark_streaming.events.event import Decoded, Reject
from spark_streaming.fold.row_lookup import present_keys, values_of
from spark_streaming.ops.breaches import Breach, Breaches
from spark_streaming.ops.stopped import TableStoppedError, stop_table
from spark_streaming.quarantine.quarantine import SUPERSEDED, Quarantine
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows, place_of
from spark_streaming.rules.contract_folder import ContractFolder
from spark_streaming.rules.lookup_rules import reference_findings
from spark_streaming.rules.screen import quarantined_columns, screen
from spark_streaming.schema.topics import Topic, Topics

if TYPE_CHECKING:
    from spark_streaming.batch.part import Part

_MEND = "mend the rows in the source, or the rule in the contract file; see `contract check`"


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
        self.found: list[Breach] = []  # in the last batch

    def begin(self) -> None:
        """A new batch begins."""
        self.found = []

    def quarantined(self, topic: Topic) -> QuarantinedRows:
        """A table's quarantined rows; read at its first event of this process."""
        if topic.quarantined is None:
            if topic.contract is None:
                return QuarantinedRows()
            topic.quarantined = self.quarantine.quarantined(topic.silver_name, topic.contract)
        return topic.quarantined

    def is_plain(self, topic: Topic) -> bool:
        """Whether a table has neither a contract file nor unresolved entries in quarantine.

        Then decoding and folding is all that its events need, wherever that is done.
        """
        return not self.contracts.stamp(topic.schema, topic.table) and not len(
            self.quarantined(topic)
        )

    def screen(self, part: Part, decoded: Decoded) -> None:
        """Fold and judge one part, under its silver table's lock; fills `part` in."""
        topic, contract, silver = part.topic, part.topic.contract, part.topic.silver
        assert contract is not None and silver is not None
        try:
            part.rules = self.contracts.rules_of(contract)
        except ContractFileError as error:
            stop_table(f"its contract file is wrong\n{error}")
        part.fresh.add([reject.event for reject in decoded.rejects], contract)
        screened = screen(
            decoded,
            contract,
            part.rules,
            self.contracts.mask_secret,
            lambda keys: values_of(silver, keys),
            lambda keys: present_keys(silver, keys),
            quarantined_columns(self.quarantined(topic), part.fresh),
            silver.handle,
        )
        part.screened = screened
        part.folded, part.rejects = screened.folded, screened.rejects
        if screened.failure:
            stop_table(screened.failure, hint=_MEND)

    def apply_references(self, parts: Sequence[Part]) -> None:
        """Apply the rules that refer to other tables; all tables of the batch must be folded."""
        tables = {(p.topic.schema, p.topic.table): p.folded for p in parts if p.folded is not None}

        def in_batch(schema: str, table: str) -> pa.Table | None:
            folded = tables.get((schema, table))
            return None if folded is None else folded.rows

        for part in parts:
            screened, rules, contract = part.screened, part.rules, part.topic.contract
            if screened is None or rules is None or contract is None:
                continue
            if rules.references and len(screened.folded.rows):
                found = reference_findings(
                    screened.folded, rules, self._topics.open_silver, in_batch
                )
                screened.conclude(contract, rules, found)
                part.folded, part.rejects = screened.folded, screened.rejects
                if screened.failure:
                    part.failure = TableStoppedError(f"{screened.failure}\n  hint: {_MEND}")
            screened.close(self.quarantined(part.topic), part.fresh)

    def quarantine_rejects(self, parts: Sequence[Part], batch_id: int | None) -> None:
        """Write rejects and broken rules; repeating it changes nothing.

        Entries are closed before the merge: a crash between the two repeats the batch.

        Args:
            batch_id: None where the commit has no batch's number: entries that exist are looked up
                then, and a repetition counts broken rules again.
        """
        closed = {place for part in parts if part.screened for place in part.screened.closed}
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
        found = [
            Breach(part.topic.silver_name, rule, part.rules.actions()[rule], count, part.rows_in)
            for part in parts
            if part.screened is not None and part.rules is not None
            for rule, count in sorted(part.screened.counts.items())
        ]
        self.found += found
        if self._breaches is not None:
            self._breaches.put(found, batch_id)

    def remember(self, part: Part) -> None:
        """Remember for later batches what this one quarantined and superseded."""
        topic = part.topic
        if part.screened is None or topic.contract is None:
            if part.result is not None and part.result.skipped:
                topic.quarantined = None  # it was merged unseen: read again what it put there
            return
        closed = part.screened.closed
        if not (part.rejects or closed):
            return
        quarantined = self.quarantined(topic)
        quarantined.remove(closed)
        kept = [r.event for r in part.rejects if place_of(r.event) not in closed]
        quarantined.add(kept, topic.contract)
