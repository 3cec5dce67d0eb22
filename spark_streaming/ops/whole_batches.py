"""Combines the ledger's rows of whole batches if several silver jobs share the tables.

Each job records the LSN to which its own tables are complete; all tables are complete to the least
of these. A row names the split of the tables under which its job worked (`share`). Only rows of the
newest split count, because under another split a job had other tables. Until each job of the newest
split has written a row, it is unknown up to where all tables are complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spark_streaming.contract.lsn import Lsn

COLUMNS = ("job", "share")
ONE_JOB = "1"


@dataclass
class Reached:
    """How far one job is.

    It holds the LSN and the source's time to which the job's tables are complete, when the job
    recorded that time, the end of its last batch, and that batch's offsets as JSON.
    """

    complete_lsn: Lsn | None = None
    time: datetime | None = None
    at: datetime | None = None
    offsets: str = "{}"
    time_at: datetime | None = None


class WholeBatches:
    """Takes rows of whole batches in any order; see the module's docstring."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._shares: dict[str, dict[int, Reached]] = {}
        self._newest: tuple[datetime, str] | None = None
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row of the ledger: its `merged_at`, and its other columns."""
        at, share = row["merged_at"], row.get("share") or ONE_JOB
        if self._newest is None or at >= self._newest[0]:
            self._newest = at, share
        known = self._shares.setdefault(share, {}).setdefault(row.get("job") or 1, Reached())
        if (lsn := row.get("complete_lsn")) is not None:
            known.complete_lsn = max(known.complete_lsn or lsn, lsn)
        # The newest LSN, not the highest: a source restored from a backup starts lower.
        time = row.get("source_time")
        if time is not None and (known.time_at is None or at >= known.time_at):
            known.time, known.time_at = time, at
        if known.at is None or at >= known.at:
            known.at, known.offsets = at, row.get("offsets") or "{}"

    def jobs(self) -> list[Reached]:
        """Return each job of the newest split, in order; empty until each has written a row."""
        if self._newest is None:
            return []
        share = self._newest[1]
        found = [self._shares[share].get(job) for job in range(1, jobs_in(share) + 1)]
        known = [one for one in found if one is not None]
        return known if len(known) == len(found) else []

    @property
    def complete_lsn(self) -> Lsn | None:
        """The LSN to which all tables are complete; None if it is not known."""
        lsns = [one.complete_lsn for one in self.jobs()]
        known = [lsn for lsn in lsns if lsn is not None]
        return min(known) if known and len(known) == len(lsns) else None

    @property
    def time(self) -> datetime | None:
        """The time in the source to which all tables are complete; None if it is not known."""
        times = [one.time for one in self.jobs()]
        known = [time for time in times if time is not None]
        return min(known) if known and len(known) == len(times) else None

    def of(self, job: int, share: str) -> Reached:
        """Return how far a job is under a split; before its first row, how far all jobs were."""
        known = self._shares.get(share, {}).get(job)
        return known or Reached(self.complete_lsn, self.time)


def jobs_in(share: str) -> int:
    """Return the number of jobs, which the split's name begins with."""
    return int(share.partition("-")[0])
