"""A model of one source table that changes its shape between transactions, and of its events.

Transactions follow each other here: what overlapping ones do is `source_model`'s. Each thing that
happens moves the log on, so the catalog can be asked as it was at any log position.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.lsn import Lsn
from spark_streaming.contract.names import INTERNAL_SCHEMA
from spark_streaming.contract.types import Column
from spark_streaming.events.event import RawEvent
from spark_streaming.events.layout import PLACEHOLDER
from spark_streaming.events.row_images import NEW_KEY_HEADER, OLD_KEY_HEADER
from spark_streaming.schema.catalog_watch import CatalogCheck

TABLE = ("public", "films")
TOPIC = "hw.public.films"
Row = dict[int, Any]  # attnum -> value

_KINDS = {
    "int32": ("integer", "int4"),
    "int64": ("bigint", "int8"),
    "float32": ("real", "float4"),
    "float64": ("double precision", "float8"),
    "text": ("text", "text"),
}
_NAMES = {"text": "aceg", "float": "bfh", "int": "dij"}
_WIDER = {"int32": "int64", "float32": "float64"}


class EvolvingSource:
    """One table with columns `id` and `code`, both unique, and others that come and go.

    Args:
        partitions: the topic's; a row's events go to that of its key.
        kinds: what may happen to the table: names of methods without `_ddl_`.
    """

    def __init__(self, random: Random, kinds: tuple[str, ...], table: str = "films") -> None:
        self.random = random
        self.kinds = kinds
        self.schema, self.table = TABLE[0], table
        self.topic = f"hw.public.{table}"
        self.xid = 700
        self.order = 0  # of the newest event in its transaction
        self.names_tell_kinds = False
        self.leaves_out = True  # large values that an update did not change
        self.columns = [self._column(1, "id", "int32"), self._column(2, "code", "int32")]
        self.columns += [self._column(3, "a", "text"), self._column(4, "b", "float32")]
        self.key = ("id",)
        self.oid = 100
        self.rows: list[Row] = []
        self.events: list[RawEvent] = []
        self.lsn = 1000
        self.last_commit = 1000
        self.next_number = 5
        self.next_value = 0
        self.ends: list[tuple[int, int]] = []  # (events so far, the LSN of their commit)
        self.contents: list[tuple[int, Counter[tuple[Any, ...]]]] = []  # (events so far, rows)
        self.states: list[tuple[int, Contract]] = []  # (from which LSN, the catalog)
        self.dropped_at: int | None = None  # again where it was made again since
        self._remember()

    # -- what may happen

    def step(self) -> None:
        """A transaction of some changes, or a change of the table."""
        if self.random.random() < 0.2:
            self.alter(self.random.choice(self.kinds))
            return
        self.step_rows()

    def step_rows(self) -> None:
        """A transaction of some changes of rows."""
        self._begin()
        for _ in range(self.random.randint(1, 3)):
            self.lsn += 8
            self._change()
        self._commit()

    def alter(self, kind: str) -> None:
        """Change the table in a transaction of its own."""
        getattr(self, f"_ddl_{kind}")()
        self._remember()
        self.contents.append((len(self.events), self.content()))

    def insert(self, number: int) -> None:
        """Insert a row in a transaction of its own."""
        self._begin()
        self.lsn += 8
        self._insert(number)
        self._commit()

    def _begin(self) -> None:
        self.xid += 1
        self.order = 0

    def _commit(self) -> None:
        self.lsn += 8
        self.last_commit = self.lsn
        self.ends.append((len(self.events), self.lsn))
        self.contents.append((len(self.events), self.content()))

    def content(self) -> Counter[tuple[Any, ...]]:
        """The rows, counted, columns in the order of their names."""
        columns = sorted(self.columns, key=lambda column: column.name)
        return Counter(tuple(row[c.attnum or 0] for c in columns) for row in self.rows)

    def catalog_at(self, lsn: int) -> Contract:
        """The contract that the catalog tells at a log position."""
        return [contract for since, contract in self.states if since <= lsn][-1]

    def _remember(self) -> None:
        self.lsn += 8
        self.last_commit = self.lsn
        columns = tuple(self.columns)
        contract = Contract(self.schema, self.table, columns, self.key, oid=self.oid, xid=self.xid)
        self.states.append((self.lsn, contract))

    # -- changes of the table

    def _ddl_nothing(self) -> None:
        """The columns were put back by hand."""
        self.xid += 1

    def _ddl_add_column(self) -> None:
        self.xid += 1
        kind = self.random.choice(["int32", "text", "float32"])
        free = self._free(kind)
        if not free:
            return
        name = self.random.choice(free)
        value = self._value(kind) if self.random.random() < 0.5 else None
        text = None if value is None else str(value)
        column = replace(self._column(self.next_number, name, kind), missing_value=text)
        self.columns.append(column)
        for row in self.rows:
            row[self.next_number] = value
        self.next_number += 1

    def _free(self, kind: str) -> list[str]:
        """Names that a column of this kind may get."""
        used = {column.name for column in self.columns}
        names = _NAMES[kind.rstrip("0123456789")] if self.names_tell_kinds else "abcdefgh"
        return [name for name in names if name not in used]

    def _ddl_drop_column(self) -> None:
        others = [c for c in self.columns if c.name not in ("id", "code")]
        if others:
            self.xid += 1
            gone = self.random.choice(others)
            self.columns.remove(gone)
            for row in self.rows:
                del row[gone.attnum or 0]

    def _ddl_rename_column(self) -> None:
        others = [c for c in self.columns if c.name not in ("id", "code")]
        old = self.random.choice(others) if others else None
        free = self._free(old.kind) if old else []
        if old and free:
            self.xid += 1
            name = self.random.choice(free)
            self.columns[self.columns.index(old)] = replace(old, name=name)

    def _ddl_widen_type(self) -> None:
        narrow = [c for c in self.columns if c.kind in _WIDER]
        if narrow:
            self.xid += 1
            old = self.random.choice(narrow)
            wider = self._column(old.attnum or 0, old.name, _WIDER[old.kind])
            self.columns[self.columns.index(old)] = wider

    def _ddl_key_change(self) -> None:
        self.xid += 1
        self.key = ("code",) if self.key == ("id",) else ("id",)

    def _ddl_table_recreated(self) -> None:
        self.xid += 1
        self.oid += 1
        self.rows = []
        self.columns = [
            replace(c, attnum=number, missing_value=None, xid=self.xid)
            for number, c in enumerate(self.columns, 1)
        ]
        self.next_number = len(self.columns) + 1

    def drop(self) -> None:
        """Drop the table, in a transaction of its own."""
        self.xid += 1
        self.lsn += 8
        self.last_commit = self.dropped_at = self.lsn

    def _ddl_table_truncated(self) -> None:
        self._begin()
        self.lsn += 8
        self._emit("t", None, None)
        self.rows = []
        self.lsn += 8
        self.ends.append((len(self.events), self.lsn))

    # -- changes of rows

    def _change(self) -> None:
        ids = self.columns[0].attnum or 0
        what = self.random.choice(["insert", "insert", "update", "update", "delete", "move"])
        number = self.random.randint(1, 9)
        is_free = not any(row[ids] == number for row in self.rows)
        if what == "insert" or not self.rows:
            if is_free:
                self._insert(number)
            return
        row = self.random.choice(self.rows)
        if what == "delete":
            self.rows.remove(row)
            self._emit("d", row, None)
        elif what == "update":
            self._emit("u", None, self._updated(row))
        elif is_free:
            self._move(row, number)

    def _updated(self, row: Row) -> Row:
        """Change some values; the row as an event tells it, without large values that stayed."""
        told = dict(row)
        for column in [c for c in self.columns if c.name not in ("id", "code")]:
            number = column.attnum or 0
            if self.random.random() < 0.5:
                row[number] = told[number] = self._value(column.kind)
            elif self.leaves_out and column.toastable and row[number] is not None:
                told[number] = PLACEHOLDER
        return told

    def _move(self, row: Row, number: int) -> None:
        """Give a row another key: both of its unique columns change."""
        old = dict(row)
        told = self._updated(row)
        for column, value in zip(self.columns[:2], (number, 100 + number), strict=True):
            row[column.attnum or 0] = told[column.attnum or 0] = value
        self._emit("d", old, None, [(NEW_KEY_HEADER, self._key_of(row))])
        self._emit("c", None, told, [(OLD_KEY_HEADER, self._key_of(old))])

    def _insert(self, number: int) -> None:
        ids, codes = (column.attnum or 0 for column in self.columns[:2])
        row = {c.attnum or 0: self._value(c.kind) for c in self.columns}
        row[ids], row[codes] = number, 100 + number
        self.rows.append(row)
        self._emit("c", None, row)

    def _emit(
        self,
        op: str,
        before: Row | None,
        after: Row | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        self.order += 1
        row = after or before
        image = {
            which: None if row is None else self._image(row)
            for which, row in (("before", before), ("after", after))
        }
        if op == "d":  # made-up values beside the key, as under the default replica identity
            named = {c.name: c for c in self.columns}
            image["before"] = {
                name: value if name in self.key else (0 if named[name].kind != "text" else "")
                for name, value in (image["before"] or {}).items()
            }
        document = {
            "op": op,
            **image,
            "source": {
                "schema": self.schema,
                "table": self.table,
                "lsn": self.lsn,
                "txId": self.xid,
                "sequence": json.dumps([str(self.last_commit), str(self.lsn)]).replace(" ", ""),
                "ts_us": self.lsn * 1000,
                "snapshot": "false",
            },
            "transaction": {"total_order": self.order},
        }
        key = None if row is None else self._key_of(row)
        value = json.dumps(document).encode()
        event = RawEvent(self.topic, 0, len(self.events), 0, key, value, headers or [])
        self.events.append(event)

    def _key_of(self, row: Row) -> bytes:
        image = self._image(row)
        return json.dumps({name: image[name] for name in self.key}, separators=(",", ":")).encode()

    def _image(self, row: Row) -> dict[str, Any]:
        return {c.name: row[c.attnum or 0] for c in self.columns}

    def _value(self, kind: str) -> Any:
        self.next_value += 1
        if kind == "text":
            return f"v{self.next_value}"
        if kind.startswith("int"):
            return self.next_value + (2**40 if kind == "int64" else 0)
        value = self.next_value + 0.1
        return _single(value) if kind == "float32" else value

    def _column(self, number: int, name: str, kind: str) -> Column:
        pg_type, base = _KINDS[kind]
        return Column(
            name,
            pg_type,
            kind,
            name not in ("id", "code"),
            base_type=base,
            attnum=number,
            toastable=kind == "text",
            xid=self.xid,
        )


class ModelCatalog(ContractStore):
    """The catalog of a modelled source, as it is at `lsn`; contracts go to the lake if there is one.

    notes: the source notes each definition.
    """

    def __init__(self, source: EvolvingSource, lake: Any = None, *, notes: bool = False) -> None:
        super().__init__(lake, "")
        self.source = source
        self.notes = notes
        self.lsn = source.lsn

    def is_dropped(self) -> bool:
        """Whether there is no such table at `lsn`."""
        newest = max(since for since, _ in self.source.states if since <= self.lsn)
        return newest < (self.source.dropped_at or 0) <= self.lsn

    def in_source(self, schema: str, table: str) -> Contract | None:
        if schema == INTERNAL_SCHEMA:  # the heartbeat's
            return Contract(schema, table, (Column("id", "integer", "int32", False),), ("id",))
        if self.is_dropped():
            return None
        newest = max(since for since, _ in self.source.states if since <= self.lsn)
        found = self.source.catalog_at(self.lsn)
        found = found.with_texts(self.texts(self.source.schema, self.source.table))
        return replace(found, noted_lsn=Lsn(newest)) if self.notes else found

    def noted(self, schema: str, table: str, after_lsn: int) -> list[Contract]:
        del schema, table
        return [
            replace(contract, begins_at_lsn=Lsn(since), noted_lsn=Lsn(since))
            for since, contract in self.source.states
            if self.notes and after_lsn < since <= self.lsn
        ]

    def check(self, tables: Any) -> CatalogCheck:
        """As `CatalogWatch.check`."""
        stamp = str(sum(since <= self.lsn for since, _ in self.source.states))
        found = [] if self.is_dropped() else tables
        return CatalogCheck(Lsn(self.lsn), Lsn(self.lsn), dict.fromkeys(found, stamp))

    def colliding_columns(self) -> dict[tuple[str, str], str]:
        """As `CatalogWatch.colliding_columns`."""
        return {}


def _single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
