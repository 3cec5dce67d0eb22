"""Retries a stopped silver table at once: `headwater resume TABLE`."""

from __future__ import annotations

import sys
import time

from app.environment.settings import load
from app.errors import HeadwaterError
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.printing import Steps

# The source's heartbeat makes a batch every 5 s, and the first slice is merged in it.
WAIT_S = 30.0
_POLL_S = 0.5


def run_resume(table: str) -> None:
    """Ask the streaming job to retry a stopped table, and print the outcome.

    Raises: HeadwaterError if the table is not stopped, stops again, or the job does not retry it
        within WAIT_S.
    """
    lake = Lakehouse(load())
    table = lake.silver_name(table)
    before = _entry(lake, table)
    if before.state not in ("stopped", "resuming"):
        raise HeadwaterError(
            f"table `{table}` is not stopped: its state is {before.state}",
            hint="`SELECT * FROM ops.freshness` shows every table's state",
        )
    lake.request_resume(table)
    print(f"resume {table}: asked; it was {before.state}: {before.reason}", file=sys.stderr)
    with Steps() as steps:
        steps.waiting(f"resume {table}: waiting for silver's next batch")
        _await(lake, table, before)


def _await(lake: Lakehouse, table: str, before: LedgerEntry) -> None:
    """Wait until the job has retried the table."""
    limit = time.monotonic() + WAIT_S
    while time.monotonic() < limit:
        now = _entry(lake, table)
        if now.state == "running":
            print(f"resume {table}: it has merged all it missed, and runs", file=sys.stderr)
            return
        if now.state == "resuming" and now.merged_at > before.merged_at:
            # The ledger says `stopped` until the planned merge is committed.
            print(f"resume {table}: it is catching up; see ops.freshness", file=sys.stderr)
            return
        if now.tries > before.tries:
            raise HeadwaterError(
                f"table `{table}` is stopped again\n  detail: {now.reason}",
                hint="repair the cause; it is tried again by itself, or by another `resume`",
            )
        time.sleep(_POLL_S)
    raise HeadwaterError(
        f"the streaming job has not tried `{table}` again within {WAIT_S:.0f} s",
        hint="`headwater status silver`; the request stays, and is carried out with its next batch",
    )


def _entry(lake: Lakehouse, table: str) -> LedgerEntry:
    entries = lake.ledger()
    if table not in entries:
        raise HeadwaterError(
            f"there is no silver table `{table}` in the ledger",
            hint=f"there are {', '.join(sorted(entries)) or 'none yet'}",
        )
    return entries[table]
