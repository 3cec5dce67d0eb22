"""The change data feed: Delta's own record of what each commit did to rows, for readers.

Off unless a setting names the table: merges then write their changes a second time. The property
stands in the table's log, so both engines, and whoever else writes the table, honour it.
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
    """What a new table is made with."""
    return {PROPERTY: "true"} if wanted else {}


def has_feed(table: DeltaTable) -> bool:
    """Whether the table records its changes, at the version that it is open at."""
    return table.metadata().configuration.get(PROPERTY) == "true"


def set_feed(table: DeltaTable, name: str, wanted: bool) -> None:
    """Switch a table's feed on or off, in a commit of its own; nothing where it is so already.

    A table that never had one is left without the property.
    """
    if has_feed(table) == wanted:
        return
    table.alter.set_table_properties({PROPERTY: str(wanted).lower()})
    log.info("table %s: change data feed %s", name, "on" if wanted else "off")
