"""Go on with a stopped silver table at once: `headwater resume TABLE`."""

from __future__ import annotations

import sys
import time

from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.settings import load

# The source's heartbeat makes a batch every 5 s, and the first slice is merged in it.
WAIT_S = 30.0
_LOOK_EVERY_S = 0.5


def run_resume(table: str) -> None:
    """Ask the streaming job to try a stopped table again, and tell what became of it.

    Raises: HeadwaterError where the table is not stopped, is stopped again, or the job does not
        take it up within WAIT_S.
    """
    lake = Lakehouse(load())
    before = _entry(lake, table)
    if before.state not in ("stopped", "resuming"):
        raise HeadwaterError(
            f"table `{table}` is not stopped: its state is {before.state}",
            hint="`SELECT * FROM ops.freshness` shows every table's state",
        )
    lake.request_resume(table)
    print(f"resume {table}: asked; it was {before.state}: {before.reason}", file=sys.stderr)
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        now = _entry(lake, table)
        if now.state == "running":
            print(f"resume {table}: it has merged all it missed, and runs", file=sys.stderr)
            return
        if now.state == "resuming" and now.merged_at > before.merged_at:
            # A plan is noted as `stopped` until its merge went through.
            print(f"resume {table}: it is catching up; see ops.freshness", file=sys.stderr)
            return
        if now.tries > before.tries:
            raise HeadwaterError(
                f"table `{table}` is stopped again\n  detail: {now.reason}",
                hint="mend the cause; it is tried again by itself, or by another `resume`",
            )
        time.sleep(_LOOK_EVERY_S)
    raise HeadwaterError(
        f"the streaming job has not taken `{table}` up within {WAIT_S:.0f} s",
        hint="`headwater status silver`; the request stays, and is taken up with its next batch",
    )


def _entry(lake: Lakehouse, table: str) -> LedgerEntry:
    found = lake.ledger()
    if table not in found:
        raise HeadwaterError(
            f"there is no silver table `{table}` in the ledger",
            hint=f"there are {', '.join(sorted(found)) or 'none yet'}",
        )
    return found[table]
