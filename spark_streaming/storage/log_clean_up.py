"""Keeps Delta's own clean-up away from a table's log, which has entries of kept versions in it."""

from __future__ import annotations

from deltalake import DeltaTable

CLEAN_UP = "delta.enableExpiredLogCleanup"


def leave_log(table: DeltaTable) -> None:
    """Switch the clean-up off, in a separate commit, of a table that an earlier release made."""
    if table.metadata().configuration.get(CLEAN_UP) != "false":
        table.alter.set_table_properties({CLEAN_UP: "false"})
