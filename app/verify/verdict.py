"""The result of `verify` for one table: a row for stdout, messages for stderr."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.compare.compare import Comparison, Difference
from spark_streaming.contract.lsn import LOG_START, Lsn, lsn_text

COLUMNS = (
    "table",
    "verdict",
    "rows",
    "missing",
    "extra",
    "differing",
    "explained",
    "source_lsn",
    "delta_version",
    "seconds",
    "checked_pct",
)
# A longer value is cut, and its length is shown.
VALUE_SHOWN = 120
# Silver has the table, but there is nothing to compare it with: it was dropped, or is not captured.
DROPPED, NOT_CAPTURED = "dropped", "not_captured"
_BEFORE_THE_DIFFERENCE = 30


@dataclass
class Verdict:
    """The result of one table.

    Args:
        lsn: the source's LSN at the instant; the oldest one of a table in several parts.
        version: silver's Delta version; the newest one of a table in several parts.
        seconds, rounds: how long it took, and how often it was compared.
        comparison: the counts and first differences; empty if the table is refused or uncompared.
        refused: why silver does not keep the table at all; "" if it does.
        stopped: why silver does not merge the table now; its predicted rows were compared.
        checked_pct: below 100 for a sample.
        rejected: events not merged yet that silver cannot decode.
        uncompared: DROPPED or NOT_CAPTURED; "" if the table was compared.
        reread: the message about changes that the stream missed; "" if there is no such gap.
    """

    table: str
    lsn: Lsn = LOG_START
    version: int | None = None
    seconds: float = 0.0
    rounds: int = 0
    comparison: Comparison = field(default_factory=Comparison)
    refused: str = ""
    stopped: str = ""
    checked_pct: float = 100.0
    rejected: int = 0
    uncompared: str = ""
    reread: str = ""

    @property
    def equal_or_explained(self) -> bool:
        """Whether every difference is explained by quarantine."""
        return self.word in ("equal", "explained")

    @property
    def equal(self) -> bool:
        return self.word == "equal"

    @property
    def word(self) -> str:
        """The verdict: equal, explained, differs, stopped, refused, dropped or not_captured."""
        if self.uncompared:
            return self.uncompared
        if self.refused:
            return "refused"
        if not self.comparison.equal:
            return "differs"
        if self.stopped:
            return "stopped"
        return "explained" if self.comparison.explained else "equal"

    def as_row(self) -> tuple[Any, ...]:
        """Return the values of COLUMNS."""
        total = self.comparison
        counts = (total.rows, total.missing, total.extra, total.differing, total.explained)
        seconds = round(self.seconds, 2)
        checked = round(self.checked_pct, 2)
        return (self.table, self.word, *counts, lsn_text(self.lsn), self.version, seconds, checked)

    def messages(self) -> Iterator[str]:
        """Yield a line for each problem."""
        if self.refused:
            yield f"{self.table}: {self.refused}"
        if self.uncompared == DROPPED:
            yield f"{self.table}: the source dropped the table; silver keeps its last rows"
        if self.uncompared == NOT_CAPTURED:
            yield (
                f"{self.table}: the source has the table, but it is not captured any more: silver "
                "misses its changes since then\n  hint: `./headwater preflight` says why"
            )
        if self.stopped:
            yield f"{self.table}: silver has stopped it and lacks its newest changes: {self.stopped}"
        if self.reread:
            yield f"{self.table}: {self.reread}"
        for difference in self.comparison.differences:
            yield f"{self.table}: {difference_text(difference)}"
        if self.comparison.explained:
            but = "equal but for" if self.equal_or_explained else "besides,"
            yield (
                f"{self.table}: {but} {self.comparison.explained} rows whose newest event is in "
                "quarantine; see `./headwater quarantine list`"
            )
        for row in self.comparison.explanations:
            yield f"{self.table}: explained by quarantine: {row.key}: {row.reason}"
        if self.comparison.at_least:
            yield f"{self.table}: too many rows differ to count them all"
        if self.rejected and not self.equal:
            yield (
                f"{self.table}: {self.rejected} events not merged yet cannot be decoded; silver will put "
                "such events into ops.quarantine"
            )


def difference_text(difference: Difference) -> str:
    """Describe a difference in a line: the row, and each differing column with both values."""
    text = f"{difference.kind}: {difference.key}"
    columns = []
    for name, source, silver in difference.columns:
        ours, theirs = shown(source, silver)
        columns.append(f"{name} is {ours} in the source, {theirs} in silver")
    return f"{text}: {'; '.join(columns)}" if columns else text


def shown(source: str | None, silver: str | None) -> tuple[str, str]:
    """Return two differing values as text; long ones are cut around the first difference."""
    at = 0
    if source is not None and silver is not None:
        shorter = min(len(source), len(silver))
        at = next((i for i in range(shorter) if source[i] != silver[i]), shorter)
    start = max(0, at - _BEFORE_THE_DIFFERENCE)
    return _window(source, start), _window(silver, start)


def _window(value: str | None, start: int) -> str:
    if value is None or len(value) <= VALUE_SHOWN:
        return repr(value)
    part = value[start : start + VALUE_SHOWN]
    return f"{part!r} (of {len(value)} characters, from {start})"
