"""Records tables that the capture leaves out; nothing else in the lake names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spark_streaming.contract.lsn import LOG_START
from spark_streaming.contract.names import collisions, silver_table
from spark_streaming.ops.schema_changes import LEFT_OUT, RecordedChange, SchemaChanges
from spark_streaming.schema.catalog_watch import CatalogWatch, Table

CHECK_S = 30.0  # a check reads the columns of all tables


class LeftOutTables:
    """Records tables whose column names would stop the connector, or whose silver name is taken.

    `kept` gives the tables that silver has; each of them keeps its name.
    """

    def __init__(
        self,
        watch: CatalogWatch,
        records: SchemaChanges | None,
        clock: Callable[[], float],
        kept: Callable[[], Iterable[Table]] = list,
    ) -> None:
        self._watch = watch
        self._records = records
        self._clock = clock
        self._kept = kept
        self._checked_at = -CHECK_S
        self._known: set[RecordedChange] = set()

    def check(self) -> None:
        """Record the tables that are new, every CHECK_S. Raises: CatalogUnreachableError."""
        now = self._clock()
        if self._records is None or now - self._checked_at < CHECK_S:
            return
        self._checked_at = now
        found = {
            _columns(*table, names) for table, names in self._watch.colliding_columns().items()
        }
        found |= set(self._names_taken())
        new = found - self._known
        self._known = found
        self._records.note(sorted(new, key=lambda change: change.detail))

    def _names_taken(self) -> Iterable[RecordedChange]:
        tables = self._watch.tables()
        if not collisions(tables):
            return
        kept = {".".join(table) for table in self._kept()}
        for found in collisions(sorted(tables, key=lambda table: ".".join(table) not in kept)):
            name = ".".join(found.table)  # its silver name belongs to the other table
            yield _record(name, "name_taken", f"{name}: {found.reason}", "")


def _columns(schema: str, table: str, names: str) -> RecordedChange:
    return _record(
        silver_table(schema, table),
        "columns_differ_in_case",
        f"{schema}.{table}: columns whose names differ in case only ({names})",
        "the connector would stop at them: the table is not captured until one is renamed",
    )


def _record(name: str, kind: str, detail: str, warning: str) -> RecordedChange:
    return RecordedChange(name, kind, 0, 0, LOG_START, "", LEFT_OUT, detail, warning)
