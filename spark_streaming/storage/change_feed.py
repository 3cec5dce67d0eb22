"""The change data feed: Delta's own record of each commit's changes of rows, for readers.

The feed is off unless a setting names the table, because with it merges write their changes twice.
The property is in the table's log, so every writer of the table honours it.
"""

from __future__ import annotations

import logging

from deltalake import DeltaTable

log = logging.getLogger(__name__)
PROPERTY = "delta.enableChangeDataFeed"
ALL = "*"


def wants_feed(setting: str, table: str) -> bool:
    """Whether `setting` (silver tables, separated by commas, or `*`) names a silver table."""
    named = {name.strip() for name in setting.split(",")}
    return ALL in named or table in named


def feed_properties(wanted: bool) -> dict[str, str | None]:
    """Return the properties of a new table."""
    return {PROPERTY: "true"} if wanted else {}


def has_feed(table: DeltaTable) -> bool:
    """Whether the table, at its open version, records its changes."""
    return table.metadata().configuration.get(PROPERTY) == "true"


def set_feed(table: DeltaTable, name: str, wanted: bool) -> None:
    """Switch a table's feed on or off in a separate commit, if it is not in that state already.

    A table that never had a feed does not get the property.
    """
    if has_feed(table) == wanted:
        return
    table.alter.set_table_properties({PROPERTY: str(wanted).lower()})
    log.info("table %s: change data feed %s", name, "on" if wanted else "off")
