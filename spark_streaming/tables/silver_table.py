"""One silver table: its address, its content, and the only handle that writes to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as pa_dataset
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract import Contract
from spark_streaming.storage.change_feed import feed_properties, set_feed, wants_feed
from spark_streaming.storage.lake import Lake
from spark_streaming.storage.log_clean_up import CLEAN_UP, leave_log
from spark_streaming.tables.announced_columns import announce
from spark_streaming.tables.data_files import TARGET_FILE_BYTES
from spark_streaming.tables.engine_protocol import Commit
from spark_streaming.tables.joined_files import Joined
from spark_streaming.tables.ownership import SOURCE, mark, plain_description, set_source
from spark_streaming.tables.rewritten_rows import REWRITE_ROWS, Rewrite, nullable, plain, recast

# The application id under which a table notes the contract version that it follows.
CONTRACT_ID = "headwater:contract"

if TYPE_CHECKING:
    from spark_streaming.tables.live_table import LiveTable


class TableEvolutionError(Exception):
    """The source's table changed in a way that silver's table cannot follow by itself."""


@dataclass(frozen=True)
class TableOptions:
    """Delta properties of every silver table; `change_data_feed` names those that record their changes."""

    retention_minutes: int = 15
    change_data_feed: str = ""

    def properties(self) -> dict[str, str | None]:
        keep = f"interval {self.retention_minutes} minutes"
        return {
            # Deletion vectors stay off: delta-rs's pyarrow reader cannot read tables with them.
            "delta.targetFileSize": str(TARGET_FILE_BYTES),
            "delta.logRetentionDuration": keep,
            "delta.deletedFileRetentionDuration": keep,
            CLEAN_UP: "false",
        }


class SilverTable:
    """A silver table, as its only writer knows it. Hold `lock` while merging or maintaining.

    Args:
        opened: the Delta table if the caller has just opened it.
    """

    def __init__(
        self,
        lake: Lake,
        name: str,
        contract: Contract,
        options: TableOptions,
        opened: DeltaTable | None = None,
    ) -> None:
        self.lake = lake
        self.name = name
        self.contract = contract
        self.path = lake.silver_path(name)
        self.lock = threading.Lock()
        self._options = options
        self._handle = opened
        self._written = -1  # by `advanced`
        self.live: LiveTable | None = None  # kept by the engine that merges small batches
        self._versions: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"SilverTable({self.name})"

    def handle(self) -> DeltaTable:
        """The open Delta table at the newest version that this process wrote."""
        if self._handle is None:
            self._handle = self.lake.table(self.path)
        elif self._handle.version() < self._written:
            self._handle.update_incremental()
        return self._handle

    def version(self) -> int:
        """The Delta version after the last commit of this process."""
        opened = self._handle or self.handle()
        return max(int(opened.version()), self._written)

    def advanced(self, version: int) -> None:
        """Note a commit that was not made by the handle, which reads the log when it is next asked for."""
        self._written = version

    def joined(self, done: Joined) -> None:
        """Note a commit of `join_small_files`; the table that an engine keeps in memory follows it."""
        if self.live is not None and self.live.version == done.version - 1:
            self.live.joined(done.version, done.added, done.removed)
        self.advanced(done.version)

    def is_empty(self) -> bool:
        """Whether the table has no rows."""
        counts = self.handle().get_add_actions(flatten=True)["num_records"].to_pylist()
        return not any(count is None or count > 0 for count in counts)

    def recorded(self, app_id: str) -> int:
        """The newest version of an application id that the table recorded; -1 if there is none."""
        if app_id not in self._versions:
            # Read from the store once: a look-up reads the log, and only this process writes.
            found = self.handle().transaction_version(app_id)
            self._versions[app_id] = -1 if found is None else int(found)
        return self._versions[app_id]

    def forget(self) -> None:
        """Drop the cache, so that the next use reads the object store: another writer may exist."""
        self._handle = None
        self._written, self.live = -1, None
        self._versions.clear()

    def has_commit(self, commit: Commit) -> bool:
        """Whether the table recorded this version of the application id, or a later one."""
        return self.recorded(commit.app_id) >= commit.version

    def committed(self, commit: Commit) -> None:
        """Note that `commit` is in the table now."""
        self._versions[commit.app_id] = commit.version

    def ensure(self) -> bool:
        """Make the table with its contract's columns if there is none. Returns: whether it did.

        In both cases its change data feed follows the settings, and a property names its source.
        """
        feed = wants_feed(self._options.change_data_feed, self.name)
        source = (self.contract.schema, self.contract.table)
        try:
            set_feed(self.handle(), self.name, feed)
            set_source(self.handle(), mark(*source))
            leave_log(self.handle())
            return False
        except TableNotFoundError:
            pass
        schema = nullable(self.contract.silver_schema())
        announce(self.name, schema.names)
        self._handle = DeltaTable.create(
            self.lake.url(self.path),
            schema=schema,
            mode="ignore",
            name=self.name,
            description=plain_description(*source),
            configuration={
                **self._options.properties(),
                **feed_properties(feed),
                SOURCE: mark(*source),
            },
            raise_if_key_not_exists=False,
            storage_options=self.lake.storage_options(),
        )
        return True

    def reset_columns(self) -> None:
        """Give an empty table its contract's columns, if it notes no version: its maker ended before that."""
        wanted = nullable(self.contract.silver_schema())
        have = pa.schema(self.handle().schema().to_arrow())
        kinds = [{f.name: plain(f.type) for f in schema} for schema in (have, wanted)]
        if kinds[0] == kinds[1] or self.recorded(CONTRACT_ID) >= 0 or not self.is_empty():
            return
        announce(self.name, kinds[1].keys() - kinds[0].keys())
        write_deltalake(
            self.handle(),
            pa.RecordBatchReader.from_batches(wanted, []),
            mode="overwrite",
            schema_mode="overwrite",
        )
        self.forget()

    def adopt(self, contract: Contract, *, clear: bool = False, lenient: bool = False) -> list[str]:
        """Follow a newer contract in one commit: new and renamed columns, other types.

        If Postgres added a column with a default, older rows read as that default but send no
        event, so silver is rewritten with the default in them. A crash leaves either the old state
        or the new one; repeating the call changes nothing.

        Args:
            clear: whether to remove the rows of a table that was dropped and made again, or whose
                name went to another table. Rows of the new table stay if they were merged already
                (while the catalog did not answer): their positions are after its beginning.
            lenient: whether values that do not fit their column's new type become NULL.
        Returns: names of the columns added.
        Raises: TableEvolutionError if a column's values do not fit its new type.
        """
        done = Commit(CONTRACT_ID, contract.version)
        if self.has_commit(done):
            self.contract = contract
            return []
        have = pa.schema(self.handle().schema().to_arrow())
        plan = Rewrite(self.contract, contract, have, clear, lenient)
        announce(self.name, set(plan.wanted.names) - set(have.names))
        if plan.rewrites:
            self._write_all(plan, done)
        elif plan.added:
            new = pa.schema([plan.wanted.field(name) for name in plan.added])
            self.handle().alter.add_columns(
                list(Schema.from_arrow(new).fields), commit_properties=named(done)
            )
        if plan.rewrites or plan.added:
            self.forget()
        self.contract = contract
        return plan.added

    def replace_rows(self, source: pa_dataset.Dataset, commit: Commit) -> int:
        """Replace all rows in one commit; create the table if it is gone.

        Readers see the old rows or the new ones, never a mixture.

        Args:
            source: rows with the contract's columns; a column that it lacks reads as its default.
            commit: recorded in the same commit, so that `has_commit` shows whether it succeeded.
        Returns: the Delta version that holds them.
        """
        self.forget()  # another writer has damaged the table
        self.ensure()
        wanted = nullable(self.contract.silver_schema())
        # A handle of its own: this takes long, and others read the table meanwhile.
        table = self.lake.table(self.path)
        announce(self.name, set(wanted.names) - {field.name for field in table.schema().fields})
        try:
            write_deltalake(
                table,
                pa.RecordBatchReader.from_batches(wanted, recast(source, self.contract, wanted)),
                mode="overwrite",
                schema_mode="overwrite",
                target_file_size=TARGET_FILE_BYTES,
                commit_properties=named(commit),
            )
        finally:
            self.forget()
        return int(table.version())

    def archive(self, version: int) -> str:
        """Copy the table as `<name>__v<version>`. Returns: the copy's name.

        An existing copy is left as it is: it was made before a crash.
        """
        name = generation_name(self.name, version)
        path = self.lake.silver_path(name)
        if not self.lake.exists(path):
            schema = pa.schema(self.handle().schema().to_arrow())
            source = self.handle().to_pyarrow_dataset()
            batches = (batch.cast(schema) for batch in source.to_batches(batch_size=REWRITE_ROWS))
            write_deltalake(
                self.lake.url(path),
                pa.RecordBatchReader.from_batches(schema, batches),
                mode="error",
                name=name,
                description=f"{self.name} as it was under version {version} of its contract",
                configuration=self._options.properties(),
                target_file_size=TARGET_FILE_BYTES,
                storage_options=self.lake.storage_options(),
            )
        return name

    def _write_all(self, plan: Rewrite, done: Commit) -> None:
        """Write the whole table again under the contract's columns, batch by batch."""
        source = self.handle().to_pyarrow_dataset()

        def batches() -> Iterator[pa.RecordBatch]:
            if plan.clear and plan.changed:
                return  # these rows were decoded as another table's
            kept = pa_dataset.field("_lsn") >= plan.begins_at_lsn if plan.clear else None
            for batch in source.to_batches(batch_size=REWRITE_ROWS, filter=kept):
                yield plan.batch(batch)

        try:
            write_deltalake(
                self.handle(),
                pa.RecordBatchReader.from_batches(plan.wanted, batches()),
                mode="overwrite",
                schema_mode="overwrite",
                target_file_size=TARGET_FILE_BYTES,
                commit_properties=named(done),
            )
        except Exception as error:
            self.forget()
            raise TableEvolutionError(
                f"table {self.name} could not follow its source"
                f" (columns of another type: {', '.join(plan.changed) or 'none'})\n"
                f"  detail: {type(error).__name__}: {error}\n"
                "  hint: the policy `new_version` for incompatible_change keeps a copy of the old "
                "table and continues with NULL for such values"
            ) from error


def row_count(table: DeltaTable) -> int:
    """The rows of a Delta table, by the statistics of its files."""
    counts = table.get_add_actions(flatten=True)["num_records"].to_pylist()
    return sum(count or 0 for count in counts)


def generation_name(name: str, version: int) -> str:
    """The silver table that holds an older generation of a table."""
    return f"{name}__v{version}"


def named(commit: Commit) -> CommitProperties:
    """The properties by which `has_commit` recognises a commit."""
    return CommitProperties(app_transactions=[Transaction(commit.app_id, commit.version)])
