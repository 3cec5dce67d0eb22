"""One table of `lake.history`: its rows, and how far it has followed bronze, in the same Delta log.

A commit has the versions of a slice of events, and the place where the slice ends, as application
transactions of Delta. So a crash repeats nothing and loses nothing; and of two processes that write
the same slice, Delta refuses the second.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import TableNotFoundError

from spark_streaming.contract.contract import Contract, quoted
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.arrow_values import missing_value
from spark_streaming.events.position import (
    FIRST_SNAPSHOT,
    RESYNC_SEEN,
    RESYNCED,
    START,
    TRUNCATE,
    HighWater,
    Position,
)
from spark_streaming.fold.row_lookup import keys_in, one_of
from spark_streaming.history.history_columns import CURRENT, history_schema, rows_of
from spark_streaming.history.intervals import Floor, Key, Version
from spark_streaming.rules.rules import TableRules
from spark_streaming.storage.lake import Lake
from spark_streaming.tables.announced_columns import announce
from spark_streaming.tables.data_files import TARGET_FILE_BYTES
from spark_streaming.tables.joined_files import Joined
from spark_streaming.tables.ownership import SOURCE, mark
from spark_streaming.tables.silver_table import TableOptions

# A later release that reads bronze in another way gives another number: it fills all tables again.
FORMAT = 1
EACH, LAST = "each", "last"
_ID = "headwater:history"
_KIND = "_kind"
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_SCHEMA = "history"


@dataclass(frozen=True)
class Progress:
    """How far a history has followed its topic.

    Args:
        offsets: partition → the next event.
        reached: partition → the greatest commit from which on one of its events was visible.
        marks: the positions of the events.
    """

    offsets: Mapping[int, int] = field(default_factory=dict)
    reached: Mapping[int, int] = field(default_factory=dict)
    marks: HighWater = field(default_factory=HighWater)


@dataclass(frozen=True)
class Replaced:
    """What becomes of a version that the table has as current: `newer` takes its place, or it goes."""

    key: Key
    newer: Version | None


def definition(contract: Contract, rules: TableRules, mode: str) -> int:
    """Return a number that differs where the rows so far would be others: they are filled again."""
    said = [FORMAT, mode, contract.oid, contract.key, sorted(rules.masks.items())]
    said.append(sorted(rules.empty_to_null))
    return _number_of(json.dumps(said))


class HistoryTable:
    """A history table and the state of its writer. Not for several threads."""

    def __init__(self, lake: Lake, name: str, topic: str, options: TableOptions) -> None:
        self.lake = lake
        self.name = f"history.{name}"
        self.path = lake.history_path(name)
        self.lock = threading.Lock()
        self._table = name
        self._topic = topic
        self._options = options
        self._handle: DeltaTable | None = None
        self.contract: Contract | None = None
        self.progress = Progress()

    def handle(self) -> DeltaTable:
        """The open Delta table at the newest version that this process wrote."""
        if self._handle is None:
            self._handle = self.lake.table(self.path)
        return self._handle

    def forget(self) -> None:
        """Drop what is known: the next use reads the object store."""
        self._handle, self.contract = None, None

    def joined(self, done: Joined) -> None:
        """Note a commit that was not made by the handle."""
        del done
        self._handle = None

    def open(self, contract: Contract, number: int, partitions: Sequence[int]) -> bool:
        """Follow a contract, and read how far the table is; make it, or begin it anew, if need be.

        Args:
            number: its `definition`.
        Returns: whether it begins from bronze's first event.
        """
        if self.contract == contract and self._noted(f"{_ID}:definition") == number:
            return False
        wanted = history_schema(contract)
        begins = False
        try:
            have = pa.schema(self.handle().schema().to_arrow())
            added = self._added(contract, have)
            if added is None or self._noted(f"{_ID}:definition") != number:
                self._begin(contract, number, partitions)
                begins = True
            elif added:
                announce(self._table, added, schema=_SCHEMA)
                new = pa.schema([wanted.field(name) for name in added])
                self.handle().alter.add_columns(list(Schema.from_arrow(new).fields))
        except TableNotFoundError:
            announce(self._table, wanted.names, schema=_SCHEMA)
            self._handle = DeltaTable.create(
                self.lake.url(self.path),
                schema=wanted,
                mode="ignore",
                name=self._table,
                partition_by=[CURRENT],
                configuration={
                    **self._options.properties(),
                    SOURCE: mark(contract.schema, contract.table),
                },
                raise_if_key_not_exists=False,
                commit_properties=_named({f"{_ID}:definition": number}),
                storage_options=self.lake.storage_options(),
            )
            begins = True
        self.contract = contract
        self.progress = self._read_progress(partitions)
        return begins

    def current(self, keys: set[Key]) -> pa.Table:
        """Return the rows of the current versions with these keys."""
        return self._rows(keys, pc.field(CURRENT) == pa.scalar(True))

    def last_ended(self, keys: set[Key]) -> pa.Table:
        """Return the rows of the last ended version of each of these keys."""
        rows = self._rows(keys, pc.field(CURRENT) == pa.scalar(False))
        order = [("_valid_to_lsn", "ascending"), ("_lsn", "ascending")]
        return rows.sort_by(order)

    def write(
        self,
        images: pa.Table,
        new: Sequence[Version],
        replaced: Sequence[Replaced],
        floors: Sequence[Floor],
        progress: Progress,
        *,
        each: bool,
    ) -> None:
        """Write a slice in one commit, with the progress that it makes.

        Args:
            images: the values of the versions.
            new: versions that the table does not have.
            replaced: what becomes of current versions that it has.
            floors: end the other current versions below them.
            each: as `intervals` takes it.
        """
        properties = _named(self._transactions(progress))
        try:
            if replaced or floors:
                self._merge(images, new, replaced, floors, properties, each)
            else:
                write_deltalake(
                    self.handle(),
                    rows_of(new, images),
                    mode="append",
                    target_file_size=TARGET_FILE_BYTES,
                    commit_properties=properties,
                    post_commithook_properties=_HOOKS,
                )
        except Exception:
            self.forget()  # whether the commit went through is unknown
            raise
        self.progress = progress

    def _merge(
        self,
        images: pa.Table,
        new: Sequence[Version],
        replaced: Sequence[Replaced],
        floors: Sequence[Floor],
        properties: CommitProperties,
        each: bool,
    ) -> None:
        assert self.contract is not None
        names, key = history_schema(self.contract).names, self.contract.key
        newer = [(one.newer, "u") for one in replaced if one.newer is not None]
        parts = [rows_of([*new, *(version for version, _ in newer)], images)]
        kinds = ["i"] * len(new) + ["u"] * len(newer)
        gone = [one.key for one in replaced if one.newer is None]
        if gone:
            columns = list(zip(*gone, strict=True))
            some = {
                k: pa.array(c, parts[0].schema.field(k).type)
                for k, c in zip(key, columns, strict=True)
            }
            parts.append(_padded(pa.table(some), parts[0].schema))
            kinds += ["d"] * len(gone)
        rows = pa.concat_tables(parts).append_column(_KIND, pa.array(kinds, pa.string()))
        equal = [f"target.{quoted(k)} = source.{quoted(k)}" for k in key]
        merger = (
            self.handle()
            .merge(
                rows,
                " AND ".join([f"target.{CURRENT} AND source.{_KIND} <> 'i'", *equal]),
                source_alias="source",
                target_alias="target",
                streamed_exec=True,
                commit_properties=properties,
                post_commithook_properties=_HOOKS,
            )
            .when_matched_update(
                {quoted(name): f"source.{quoted(name)}" for name in names},
                predicate=f"source.{_KIND} = 'u'",
            )
            .when_matched_delete(predicate=f"source.{_KIND} = 'd'")
            .when_not_matched_insert(
                {quoted(name): f"source.{quoted(name)}" for name in names},
                predicate=f"source.{_KIND} <> 'd'",
            )
        )
        for floor in floors:
            below = f"target.{CURRENT} AND target._lsn < {floor.lsn}"
            if not each:
                merger = merger.when_not_matched_by_source_delete(
                    predicate=f"{below} AND target._valid_from_lsn >= {floor.at.lsn}"
                )
            time = f"to_timestamp_micros({floor.at.time_us})"
            merger = merger.when_not_matched_by_source_update(
                {
                    CURRENT: "false",
                    "_valid_to_lsn": f"greatest(target._valid_from_lsn, {floor.at.lsn})",
                    "_valid_to": time,
                    # As `intervals` does: a snapshot's rows tell when they were read.
                    "_valid_from": f"CASE WHEN target._operation = 'snapshot' THEN "
                    f"least(target._valid_from, {time}) ELSE target._valid_from END",
                    "_ended_by": f"'{floor.reason}'",
                },
                predicate=below,
            )
        merger.execute()

    def _rows(self, keys: set[Key], condition: pc.Expression) -> pa.Table:
        assert self.contract is not None
        schema = history_schema(self.contract)
        for position, name in enumerate(self.contract.key):
            kind = schema.field(name).type
            if not pa.types.is_nested(kind):
                condition &= one_of(name, pa.array({key[position] for key in keys}, kind))
        dataset: pa_dataset.Dataset = self.handle().to_pyarrow_dataset()
        rows = dataset.to_table(columns=schema.names, filter=condition).cast(schema)
        wanted = [key in keys for key in keys_in(rows, self.contract.key)]
        return rows.filter(pa.array(wanted, pa.bool_()))

    def _added(self, contract: Contract, have: pa.Schema) -> list[str] | None:
        """The columns to add; None if the table has to be filled again to have the contract's."""
        wanted = history_schema(contract)
        types = {one.name: _plain(one.type) for one in have}
        if set(have.names) - set(wanted.names):
            return None  # a column was renamed
        added = [name for name in wanted.names if name not in types]
        if any(types.get(f.name, _plain(f.type)) != _plain(f.type) for f in wanted):
            return None
        new = [contract.by_name[name] for name in added if name in contract.by_name]
        # Older rows read as the column's default, and no event says so.
        return None if any(missing_value(column).is_valid for column in new) else added

    def _begin(self, contract: Contract, number: int, partitions: Sequence[int]) -> None:
        """Empty the table: readers see no row of before that a mask now hides."""
        wanted = history_schema(contract)
        new = set(wanted.names) - set(self.handle().schema().to_arrow().names)
        announce(self._table, new, schema=_SCHEMA)
        nothing = dict.fromkeys(self._ids(partitions), 0)
        write_deltalake(
            self.handle(),
            pa.RecordBatchReader.from_batches(wanted, []),
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=[CURRENT],
            commit_properties=_named({**nothing, f"{_ID}:definition": number}),
        )
        self._handle = None

    def _ids(self, partitions: Sequence[int]) -> list[str]:
        marks = [*partitions, TRUNCATE, FIRST_SNAPSHOT, RESYNCED]
        marks += [RESYNC_SEEN - number for number in partitions]
        return [
            *(f"{_ID}:{kind}:{number}" for number in partitions for kind in ("offset", "reached")),
            *(f"{_ID}:mark:{number}:{name}" for number in marks for name in Position._fields),
        ]

    def _transactions(self, progress: Progress) -> dict[str, int]:
        found = {f"{_ID}:offset:{number}": offset for number, offset in progress.offsets.items()}
        found |= {f"{_ID}:reached:{number}": lsn for number, lsn in progress.reached.items()}
        for number, mark_ in progress.marks.marks(self._topic).items():
            for name, value in mark_._asdict().items():
                found[f"{_ID}:mark:{number}:{name}"] = int(value)
        return found | {f"{_ID}:topic": _number_of(self._topic)}

    def _read_progress(self, partitions: Sequence[int]) -> Progress:
        if self._noted(f"{_ID}:topic") not in (None, _number_of(self._topic)):
            return Progress()  # the lake was restored: its offsets are another topic's
        noted = {
            one: found for one in self._ids(partitions) if (found := self._noted(one)) is not None
        }
        marks: dict[tuple[str, int], Position] = {}
        for number in {int(one.split(":")[3]) for one in noted if ":mark:" in one}:
            values = [noted.get(f"{_ID}:mark:{number}:{name}", 0) for name in Position._fields]
            position = Position(Lsn(values[0]), Lsn(values[1]), values[2])
            if position != START:
                marks[self._topic, number] = position
        return Progress(
            {n: noted[f"{_ID}:offset:{n}"] for n in partitions if f"{_ID}:offset:{n}" in noted},
            {n: noted[f"{_ID}:reached:{n}"] for n in partitions if f"{_ID}:reached:{n}" in noted},
            HighWater(marks),
        )

    def _noted(self, app_id: str) -> int | None:
        found = self.handle().transaction_version(app_id)
        return None if found is None else int(found)


def _number_of(text: str) -> int:
    """A number for Delta's transaction ids, another one for each text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2


def _named(transactions: Mapping[str, int]) -> CommitProperties:
    return CommitProperties(
        app_transactions=[Transaction(one, version) for one, version in transactions.items()]
    )


def _padded(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a schema; those that they lack are NULL."""
    columns: list[Any] = [
        rows[one.name] if one.name in rows.column_names else pa.nulls(len(rows), one.type)
        for one in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _plain(kind: pa.DataType) -> str:
    """The type without what Delta does not keep: string widths, names of list items."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_plain(kind.value_type)}>"
    return str(kind).replace("large_", "").replace("_view", "")
