"""One table's decoded changes on their way to a merge: treated, folded, judged.

In order: empty texts as declared, masks; fold; conditions on the rows as the source has them;
uniqueness. What it needs of silver is given as functions, so that it runs in a worker too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from deltalake import DeltaTable

from spark_streaming.contract import Contract
from spark_streaming.events import Changes, Decoded, Reject
from spark_streaming.fold import Folded, Moved, Present, fold
from spark_streaming.held import Holds, Place
from spark_streaming.judge import Finding, Verdict, conclude, judge
from spark_streaming.lookups import uniqueness_findings
from spark_streaming.quality import treat
from spark_streaming.rows import HeldColumns
from spark_streaming.rules import TableRules


@dataclass
class Screened:
    """What is left to merge of one table's batch, and what is not merged and why.

    Args:
        rejects: for quarantine.
        counts: rule → rows that break it.
        failure: why the table must stop, with nothing of this batch written; None: go on.
        closed: entries of quarantine, of earlier batches or of this one, that a row of this
            batch makes out of date.
    """

    folded: Folded
    plain: Changes
    rejects: list[Reject] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    failure: str | None = None
    closed: set[Place] = field(default_factory=set)

    def apply(self, verdict: Verdict) -> None:
        """Take in what some rules found."""
        self.folded = verdict.folded
        self.rejects += verdict.rejects
        for name, count in verdict.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if verdict.failure:
            self.failure = " and ".join(filter(None, (self.failure, verdict.failure)))

    def conclude(self, contract: Contract, rules: TableRules, findings: list[Finding]) -> None:
        """Take in what a look at other rows found."""
        self.apply(conclude(self.folded, self.plain, contract, rules, findings))

    def close(self, holds: Holds, fresh: Holds) -> None:
        """Note which entries are out of date; after the last rule."""
        if self.folded.origin is None or not (len(holds) or len(fresh)):
            return
        floor = max(self.folded.truncate_lsn or 0, self.folded.resnapshot_lsn or 0)
        for some in (holds, fresh):
            self.closed |= some.closed_by(self.folded.origin.changes, floor or None)


def screen(
    decoded: Decoded,
    contract: Contract,
    rules: TableRules,
    mask_secret: bytes,
    moved: Moved,
    present: Present | None,
    held: HeldColumns,
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


def held_columns(holds: Holds, fresh: Holds) -> HeldColumns:
    """What `fold` must know of entries of earlier batches, and of this one's rejected events."""
    if not len(fresh):
        return holds.columns()
    columns: dict[object, Mapping[str, int]] = dict(holds.columns())
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
    later = replace(changes, changes=guarded, first_snapshot_lsn=None)
    return replace(decoded, changes=later)
