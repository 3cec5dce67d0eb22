"""Takes one table's decoded changes towards a merge: treats, folds and judges them.

In order: empty texts as declared, masks; fold; conditions on the rows as the source has them;
uniqueness. What it needs of silver is given as functions, so that it runs in a worker too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from deltalake import DeltaTable

from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import Changes, Decoded, Place, Reject
from spark_streaming.fold.change_rows import FindKeys, QuarantinedColumns, ReadRows
from spark_streaming.fold.keyed import Folded, fold
from spark_streaming.quarantine.quarantined_rows import QuarantinedRows
from spark_streaming.rules.contract_folder import treat
from spark_streaming.rules.lookup_rules import uniqueness_findings
from spark_streaming.rules.row_judge import Finding, Verdict, conclude, judge
from spark_streaming.rules.rules import TableRules


@dataclass
class Screened:
    """What is left to merge of one table's batch, and what is not merged and why.

    Args:
        rejects: for quarantine.
        counts: rule → rows that break it.
        failure: why the table must stop, with nothing of this batch written; None: go on.
        closed: entries of quarantine, of previous batches or this one, that a row of this batch
            supersedes.
    """

    folded: Folded
    plain: Changes
    rejects: list[Reject] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    failure: str | None = None
    closed: set[Place] = field(default_factory=set)

    def apply(self, verdict: Verdict) -> None:
        """Add the verdict of some rules."""
        self.folded = verdict.folded
        self.rejects += verdict.rejects
        for name, count in verdict.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if verdict.failure:
            self.failure = " and ".join(filter(None, (self.failure, verdict.failure)))

    def conclude(self, contract: Contract, rules: TableRules, findings: list[Finding]) -> None:
        """Add the findings of rules that need other rows."""
        self.apply(conclude(self.folded, self.plain, contract, rules, findings))

    def close(self, quarantined: QuarantinedRows, fresh: QuarantinedRows) -> None:
        """Note which entries are superseded; call it after the last rule."""
        if self.folded.origin is None or not (len(quarantined) or len(fresh)):
            return
        floor = max(self.folded.truncate_lsn or 0, self.folded.resnapshot_lsn or 0)
        for some in (quarantined, fresh):
            self.closed |= some.closed_by(self.folded.origin.changes, floor or None)


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
    """Take one table's changes from decoding to what a merge applies.

    Args:
        moved, present, held: as `fold` takes them.
        silver: opens the table, for uniqueness; None: uniqueness is not judged here.
    """
    plain, masked = treat(decoded.changes, rules, mask_secret)
    folded = fold(masked, contract, moved, present, held)
    screened = Screened(folded, plain, [*decoded.rejects, *folded.rejects])
    screened.apply(judge(folded, plain, contract, rules, moved))
    if rules.uniques and silver is not None and len(screened.folded.rows):
        found = uniqueness_findings(screened.folded, contract.key, rules, silver())
        screened.conclude(contract, rules, found)
    return screened


def quarantined_columns(quarantined: QuarantinedRows, fresh: QuarantinedRows) -> QuarantinedColumns:
    """For `fold`: the columns quarantined by previous batches and by this one's rejects."""
    if not len(fresh):
        return quarantined.columns()
    columns: dict[object, Mapping[str, int]] = dict(quarantined.columns())
    for key, found in fresh.columns().items():
        columns[key] = {**found, **columns.get(key, {})}
    return columns


def at_lsn(decoded: Decoded) -> Decoded:
    """Decoded events that were read out of their order: each may only replace what is older.

    A change that is past the high-water mark replaces whatever silver holds; one that is read
    again from quarantine is past every mark, and must not. A snapshot's first row among them
    starts no snapshot: the rows that came before it stay.
    """
    changes = decoded.changes
    guarded = [
        change._replace(guard=change.lsn, starts_snapshot=False) for change in changes.changes
    ]
    later = replace(changes, changes=guarded, first_snapshot_lsn=None, resync_lsn=None)
    return replace(decoded, changes=later)
