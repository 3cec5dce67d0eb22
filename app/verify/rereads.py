"""Tables that are being read again from the source after changes were missed: they may differ until that ends."""

from __future__ import annotations

from collections.abc import Mapping

from spark_streaming.ops.incident_rows import OPEN
from spark_streaming.ops.incident_table import IncidentLog
from spark_streaming.storage.lake import Lake


def rereads(lake: Lake, names: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return what to say of each table that is being read again, by open incidents of kind `gap`.

    Args:
        names: silver's name → schema and table in the source.
    Raises: DeltaError, OSError if the store does not answer.
    """
    log = IncidentLog(lake)
    log.refresh()
    found = {}
    for one in log.incidents(state=OPEN, kind="gap"):
        for name, place in names.items():
            if not one.tables or ".".join(place) in one.tables:
                found[name] = (
                    f"changes were missed, so it is being read again since {one.opened_at:%H:%M:%S} UTC, and "
                    f"may differ until that ends\n  hint: verify it again when the incident {one.id} is "
                    "closed: `./headwater status`"
                )
    return found
