"""Tables that the capture leaves out: they have no topic, so nothing else tells of them in the lake."""

from __future__ import annotations

from collections.abc import Callable

from spark_streaming.catalog_watch import CatalogWatch
from spark_streaming.naming import silver_table
from spark_streaming.schema_changes import LEFT_OUT, RecordedChange, SchemaChanges

LOOK_S = 30.0  # it goes through the columns of all tables


class LeftOut:
    """Records the tables at whose column names the connector would stop."""

    def __init__(
        self, watch: CatalogWatch, records: SchemaChanges | None, clock: Callable[[], float]
    ) -> None:
        self._watch = watch
        self._records = records
        self._clock = clock
        self._looked_at = -LOOK_S
        self._known: dict[tuple[str, str], str] = {}

    def look(self) -> None:
        """Note those that are new, every LOOK_S. Raises: CatalogUnreachableError."""
        now = self._clock()
        if self._records is None or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        found = self._watch.twins()
        new = {table: names for table, names in found.items() if self._known.get(table) != names}
        self._known = found
        self._records.note([_record(*table, names) for table, names in new.items()])


def _record(schema: str, table: str, names: str) -> RecordedChange:
    return RecordedChange(
        silver_table(schema, table),
        "columns_differ_in_case",
        0,
        0,
        0,
        "",
        LEFT_OUT,
        f"{schema}.{table}: columns whose names differ in case only ({names})",
        "the connector would stop at them: the table is not captured until one is renamed",
    )
