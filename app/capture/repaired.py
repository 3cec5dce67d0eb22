"""Closes the incidents whose tables have all been read again; `capture` calls it in its passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from deltalake.exceptions import DeltaError

from app.capture.resync import DONE, Resync
from spark_streaming.contract.lsn import lsn_text
from spark_streaming.ops.incident_rows import OPEN
from spark_streaming.ops.incident_table import IncidentLog

# After this time, incidents that another process opened are known here.
REFRESH_S = 10.0


class Repaired:
    """Closes incidents by their resyncs."""

    def __init__(self, log: IncidentLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._refreshed_at = -REFRESH_S

    def close_done(self, resyncs: Sequence[Resync]) -> None:
        """Close each open incident whose requested resyncs are all done.

        If the lake does not answer, a later pass closes it.
        """
        if self._clock() - self._refreshed_at < REFRESH_S:
            return
        of = {id for one in resyncs for id in one.incidents}
        self._refreshed_at = self._clock()
        if not of:
            return
        try:
            self._log.refresh()
        except (DeltaError, OSError):
            return  # a later pass tries again; `status` reports the object store
        for incident in self._log.incidents(state=OPEN):
            mine = [one for one in resyncs if incident.id in one.incidents]
            if mine and all(one.state == DONE for one in mine):
                self._log.close_incident(incident.id, how(mine))


def how(resyncs: Sequence[Resync]) -> str:
    """Describe how an incident was closed."""
    rows = sum(one.rows for one in resyncs)
    below = lsn_text(min(one.applied_lsn for one in resyncs))
    return (
        f"{len(resyncs)} tables were read again from the source ({rows} rows): from {below} on silver "
        "equals the source"
    )
