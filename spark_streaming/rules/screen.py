"""Prepares one table's decoded changes for a merge: treats, folds and judges them.

The order is: declared empty texts become NULL, masks; fold; conditions on the rows as the source
has them; uniqueness. Access to silver is given as functions, so that this can run in a worker, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deltalake import DeltaTable

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.lsn import LOG_START
from spark_streaming.events.event import Changes, Decoded, Place, Reject
from spark_streaming.fold.change_rows import FindKeys, QuarantinedColumns, ReadRows
from spark_streaming.fold.keyed import Folded, fold
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows
from spark_streaming.rules.contract_folder import treat
from spark_streaming.rules.lookup_rules import uniqueness_findings
from spark_streaming.rules.row_judge import Finding, Verdict, conclude, judge
from spark_streaming.rules.rules import TableRules


@dataclass(frozen=True)
class Screened:
    """The part of one table's batch that can be merged, and the rejects with their reasons.

    Args:
        rejects: for quarantine.
        counts: rule → number of rows that break it.
        failure: why the table must stop before any of this batch is written; None if it goes on.
    """

    folded: Folded
    plain: Changes
    rejects: Sequence[Reject]
    counts: Mapping[str, int] = field(default_factory=dict)
    failure: str | None = None

    def judged(self, verdict: Verdict) -> Screened:
        """Apply the verdict of further rules."""
        counts = Counter(self.counts)
        counts.update(verdict.counts)
        return replace(
            self,
            folded=verdict.folded,
            rejects=[*self.rejects, *verdict.rejects],
            counts=counts,
            failure=" and ".join(filter(None, (self.failure, verdict.failure))) or None,
        )

    def concluded(self, contract: Contract, rules: TableRules, findings: list[Finding]) -> Screened:
        """Apply the findings of rules that need other rows."""
        return self.judged(conclude(self.folded, self.plain, contract, rules, findings))

    def supersedes(self, quarantined: QuarantinedRows, fresh: QuarantinedRows) -> frozenset[Place]:
        """The entries of quarantine, of previous batches or this one, that the rows supersede."""
        if self.folded.origin is None or not (len(quarantined) or len(fresh)):
            return frozenset()
        floor = max(self.folded.truncate_lsn or LOG_START, self.folded.resnapshot_lsn or LOG_START)
        changes = self.folded.origin.changes
        return frozenset(
            place
            for some in (quarantined, fresh)
            for place in some.closed_by(changes, floor or None)
        )


def screen(
    decoded: Decoded,
    contract: Contract,
    rules: TableRules,
    mask_secret: bytes,
    moved: ReadRows,
    present: FindKeys | None,
    held: QuarantinedColumns,
    silver: Callable[[], DeltaTable] | None = None,
) -> Screened:
    """Take one table's changes from decoding to the input of a merge.

    Args:
        moved, present, held: as `fold` takes them.
        silver: opens the table to judge uniqueness; None if that is not judged here.
    """
    plain, masked = treat(decoded.changes, rules, mask_secret)
    folded = fold(masked, contract, moved, present, held)
    screened = Screened(folded, plain, [*decoded.rejects, *folded.rejects])
    screened = screened.judged(judge(folded, plain, contract, rules, moved))
    if rules.uniques and silver is not None and len(screened.folded.rows):
        found = uniqueness_findings(screened.folded, contract.key, rules, silver())
        return screened.concluded(contract, rules, found)
    return screened


def quarantined_columns(quarantined: QuarantinedRows, fresh: QuarantinedRows) -> QuarantinedColumns:
    """The columns quarantined by previous batches and by this one's rejects, for `fold`."""
    if not len(fresh):
        return quarantined.columns()
    columns: dict[object, Mapping[str, int]] = dict(quarantined.columns())
    for key, found in fresh.columns().items():
        columns[key] = {**found, **columns.get(key, {})}
    return columns


def at_lsn(decoded: Decoded) -> Decoded:
    """Mark decoded events that were read out of order, so that each only replaces older rows.

    A change past the high-water mark normally replaces whatever silver holds. An event that is read
    again from quarantine counts as past every mark, but must not do so. A snapshot's first row
    among them does not start a snapshot: the rows that came before it stay.
    """
    changes = decoded.changes
    guarded = [
        change._replace(guard=change.lsn, starts_snapshot=False) for change in changes.changes
    ]
    later = replace(changes, changes=guarded, first_snapshot_lsn=None, resync_lsn=None)
    return replace(decoded, changes=later)
