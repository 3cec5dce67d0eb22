"""Decides which folded rows silver takes: applies a table's rules to the rows that one merge would write.

Rules judge rows as they would be in silver after the batch, not each event: an error that the same
batch repairs never shows. A row that breaks a `quarantine` rule does not reach silver: its events
go to quarantine, and silver keeps the row as it was. One row that breaks a `fail` rule stops the
table before any of the batch is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_streaming.contract.contract import Contract
from spark_streaming.events.event import Changes, Reject
from spark_streaming.fold.change_rows import Origin, SilverKey
from spark_streaming.fold.keyed import Folded
from spark_streaming.fold.row_lookup import keys_in
from spark_streaming.rules.expectations import Rule, broken
from spark_streaming.rules.rules import TableRules

_SHOWN_CHARS_MAX = 60
_ROWS_NAMED_MAX = 3
SilverRows = Callable[[list[SilverKey]], Mapping[SilverKey, Mapping[str, Any]]]


@dataclass(frozen=True)
class Finding:
    """The rows (by number in `Folded.rows`) that break one rule; `said` is the rule in words."""

    name: str
    action: str
    said: str
    columns: tuple[str, ...]
    rows: frozenset[int]


@dataclass(frozen=True)
class Verdict:
    """What the rules leave of a folded batch.

    Args:
        folded: the batch without the rows that go to quarantine.
        rejects: the events of those rows, with rule and reason.
        counts: rule → number of rows that break it; rules that no row breaks are left out.
        failure: why the table must stop; then nothing of the batch may be written.
    """

    folded: Folded
    rejects: list[Reject] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    failure: str | None = None


def judge(
    folded: Folded, plain: Changes, contract: Contract, rules: TableRules, silver: SilverRows
) -> Verdict:
    """Apply a table's conditions to its folded rows.

    Args:
        folded: the rows folded from the masked changes.
        plain: the same changes before masking: rules see the source's values.
        silver: reads rows of silver by key, for conditions on a value that an event left out.
    """
    written = _written(folded)
    if not rules.rules or not written:
        return Verdict(folded)
    rows = _Candidates(folded, plain, contract, rules, written, silver)
    arrays = broken(rows.table(), rules.rules)
    findings = []
    for rule, array in zip(rules.rules, arrays, strict=True):
        hit = pc.and_(array, pc.invert(rows.unknown(rule)))
        numbers = true_rows(hit)
        if numbers:
            hits = frozenset(written[number] for number in numbers)
            said = " ".join(rule.condition.split())
            findings.append(Finding(rule.name, rule.action, said, rule.columns, hits))
    return conclude(folded, plain, contract, rules, findings)


def conclude(
    folded: Folded,
    plain: Changes,
    contract: Contract,
    rules: TableRules,
    findings: Sequence[Finding],
) -> Verdict:
    """The verdict that follows from findings."""
    if not findings:
        return Verdict(folded)
    counts = {finding.name: len(finding.rows) for finding in findings}
    failing = [finding for finding in findings if finding.action == "fail"]
    if failing:
        return Verdict(folded, [], counts, _failure(folded, contract, failing))
    bad: dict[int, list[Finding]] = {}
    for finding in findings:
        if finding.action == "quarantine":
            for number in finding.rows:
                bad.setdefault(number, []).append(finding)
    if not bad or folded.origin is None:
        return Verdict(folded, [], counts)
    rejects = []
    for number in sorted(bad):
        reason = _reason(folded, contract, rules, number, bad[number])
        for event in folded.origin.events(number, plain.changes):
            rejects.append(Reject(event, bad[number][0].name, reason))
    return Verdict(_without(folded, set(bad)), rejects, counts)


class _Candidates:
    """The rows that a merge would write, with the values that the rules see."""

    def __init__(
        self,
        folded: Folded,
        plain: Changes,
        contract: Contract,
        rules: TableRules,
        written: list[int],
        silver: SilverRows,
    ) -> None:
        self._folded = folded
        self._plain = plain
        self._contract = contract
        self._rules = rules
        self._written = written
        self._rows = folded.rows.take(pa.array(written, pa.int64()))
        self._silver = silver
        self._filled: set[str] = set()

    def table(self) -> pa.Table:
        """One row per candidate: the columns that some rule reads."""
        wanted = {name for rule in self._rules.rules for name in rule.columns}
        columns = [c for c in self._contract.columns if c.name in wanted]
        arrays = {c.name: self._column(c.name) for c in columns}
        if not arrays:  # a condition without columns is still judged for each row
            arrays = {"_lsn": self._rows["_lsn"]}
        return pa.table(arrays)

    def unknown(self, rule: Rule) -> pa.Array:
        """The rows for which an event left out a value that the rule reads.

        A rule on one column judged the value when it was written. A rule on several columns uses
        the value in silver, unless that is masked.
        """
        found = pa.array([False] * len(self._rows))
        for name in rule.columns:
            flag = f"_keep_{name}"
            if flag in self._rows.column_names and (
                len(rule.columns) == 1 or name not in self._filled
            ):
                found = pc.or_(found, self._rows[flag].combine_chunks())
        return found

    def _column(self, name: str) -> pa.ChunkedArray:
        number = next(i for i, c in enumerate(self._contract.columns) if c.name == name)
        origin = self._folded.origin
        if name in self._rules.masks and origin is not None:
            places = [origin.place(row, number) for row in self._written]
            return self._plain.images.column(number).take(pa.array(places, pa.int64()))
        column = self._rows[name]
        shared = any(name in r.columns and len(r.columns) > 1 for r in self._rules.rules)
        if f"_keep_{name}" in self._rows.column_names and shared and self._contract.key:
            column = self._fill(name, column)
        return column

    def _fill(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        kept = self._rows[f"_keep_{name}"].to_pylist()
        keys = keys_in(self._rows, self._contract.key)
        wanted = [key if keep else None for key, keep in zip(keys, kept, strict=True)]
        found = self._silver([key for key in wanted if key is not None])
        values = [
            value if key is None else found.get(key, {}).get(name)
            for key, value in zip(wanted, column.to_pylist(), strict=True)
        ]
        self._filled.add(name)
        return pa.chunked_array([pa.array(values, column.type)])


def _written(folded: Folded) -> list[int]:
    """The numbers of the rows that a merge writes; the others are deletes."""
    return true_rows(pc.not_equal(folded.rows["_op"], "d"))


def true_rows(mask: pa.Array | pa.ChunkedArray) -> list[int]:
    """The numbers of the rows where a mask is true."""
    # pyarrow 25 dies (SIGSEGV) of `indices_nonzero` on a chunked array without a chunk.
    return pc.indices_nonzero(mask).to_pylist() if len(mask) else []


def _without(folded: Folded, gone: set[int]) -> Folded:
    """Leave out rows, by number."""
    left = [number for number in range(len(folded.rows)) if number not in gone]
    origin = folded.origin
    if origin is not None:
        origin = Origin(
            [origin.changes[n] for n in left], [origin.images[n] for n in left], origin.cells
        )
    return replace(folded, rows=folded.rows.take(pa.array(left, pa.int64())), origin=origin)


def _failure(folded: Folded, contract: Contract, failing: Sequence[Finding]) -> str:
    messages = []
    for finding in failing:
        some = sorted(finding.rows)[:_ROWS_NAMED_MAX]
        keys = "; ".join(_key(folded, contract, number) for number in some)
        more = ", …" if len(finding.rows) > len(some) else ""
        messages.append(
            f"{len(finding.rows)} row(s) break rule `{finding.name}` ({finding.said}): {keys}{more}"
        )
    return " and ".join(messages)


def _key(folded: Folded, contract: Contract, number: int) -> str:
    names = contract.key or ("_lsn",)
    return ", ".join(f"{name} = {_shown(folded.rows[name][number].as_py())}" for name in names)


def _reason(
    folded: Folded, contract: Contract, rules: TableRules, number: int, found: Sequence[Finding]
) -> str:
    names = dict.fromkeys(name for finding in found for name in finding.columns)
    values = ", ".join(
        f"{name} = "
        + ("(masked)" if name in rules.masks else _shown(folded.rows[name][number].as_py()))
        for name in names
    )
    broken_rules = ", ".join(f"`{finding.name}` ({finding.said})" for finding in found)
    return f"the row breaks {broken_rules}" + (f": {values}" if values else "")


def _shown(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "..."
