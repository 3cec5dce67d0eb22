"""What `verify` found for a table, and how it is told: a row on stdout, differences on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.lake.compare import Comparison, Difference
from spark_streaming.position import lsn_text

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
# A value of which more is stored than anybody reads; the rest is told by its length.
VALUE_SHOWN = 120
_BEFORE_THE_DIFFERENCE = 30


@dataclass
class Verdict:
    """What was found for one table: `comparison`, at source `lsn`, silver's Delta `version`.

    A large table is compared in parts, each at an instant of its own: `lsn` is then the oldest,
    `version` the newest. `refused` says why a table is not kept in silver at all; then there is
    no comparison. `stopped` says why silver does not go on with the table: what it will hold was
    compared, and it does not hold it yet. `checked_pct` is below 100 for a sample. `rejected` counts events on their way
    that silver cannot decode.
    """

    table: str
    lsn: int = 0
    version: int | None = None
    seconds: float = 0.0
    rounds: int = 0
    comparison: Comparison = field(default_factory=Comparison)
    refused: str = ""
    stopped: str = ""
    checked_pct: float = 100.0
    rejected: int = 0

    @property
    def accounted(self) -> bool:
        """Whether all is equal but what quarantine explains."""
        return self.word in ("equal", "explained")

    @property
    def green(self) -> bool:
        return self.word == "equal"

    @property
    def word(self) -> str:
        """equal, explained (equal but for rows whose newest event is in quarantine), differs,
        stopped or refused."""
        if self.refused:
            return "refused"
        if not self.comparison.equal:
            return "differs"
        if self.stopped:
            return "stopped"
        return "explained" if self.comparison.explained else "equal"

    def as_row(self) -> tuple[Any, ...]:
        """The verdict as COLUMNS."""
        found = self.comparison
        counts = (found.rows, found.missing, found.extra, found.differing, found.explained)
        seconds = round(self.seconds, 2)
        checked = round(self.checked_pct, 2)
        return (self.table, self.word, *counts, lsn_text(self.lsn), self.version, seconds, checked)

    def explained(self) -> Iterator[str]:
        """A line for each thing that is not as it should be."""
        if self.refused:
            yield f"{self.table}: {self.refused}"
        if self.stopped:
            yield f"{self.table}: silver has stopped it, its newest changes are missing: {self.stopped}"
        for difference in self.comparison.differences:
            yield f"{self.table}: {told(difference)}"
        if self.comparison.explained:
            but = "equal but for" if self.accounted else "besides,"
            yield (
                f"{self.table}: {but} {self.comparison.explained} rows whose newest event is in "
                "quarantine; see `./headwater quarantine list`"
            )
        for excused in self.comparison.excused:
            yield f"{self.table}: explained by quarantine: {excused.key}: {excused.reason}"
        if self.comparison.at_least:
            yield f"{self.table}: so much differs that not all of it was counted"
        if self.rejected and not self.green:
            yield (
                f"{self.table}: {self.rejected} events on their way cannot be decoded; silver puts "
                "such events into ops.quarantine"
            )


def told(difference: Difference) -> str:
    """One difference in a line: the row, and each differing column with both values."""
    text = f"{difference.kind}: {difference.key}"
    columns = []
    for name, source, silver in difference.columns:
        ours, theirs = shown(source, silver)
        columns.append(f"{name} is {ours} in the source, {theirs} in silver")
    return f"{text}: {'; '.join(columns)}" if columns else text


def shown(source: str | None, silver: str | None) -> tuple[str, str]:
    """Two differing values as they are printed: long ones from shortly before they part."""
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
