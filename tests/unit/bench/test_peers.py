"""What the comparison with peers rests on: equal changes for all, and readers that see each difference."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from app.artefacts.locking.artefact_requirements import read_requirements
from app.artefacts.locking.lock import read_lock
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from tests.bench.peers.contender import HERE
from tests.bench.peers.delta_tables import SCHEMA, local_table, make_tables, value_of
from tests.bench.peers.equality import delta_rows, file_rows
from tests.bench.peers.workload import MARKER, PeersWorkload

CONTRACT = Contract(
    "public",
    "peer_1",
    (
        Column("id", "bigint", "int64", nullable=False, base_type="int8"),
        Column("v", "integer", "int32", base_type="int4"),
        Column("note", "text", "text", base_type="text"),
        Column("body", "text", "text", base_type="text"),
        Column("price", "numeric(12,2)", "decimal", precision=12, scale=2, base_type="numeric"),
        Column("updated_at", "timestamptz", "timestamptz", base_type="timestamptz"),
    ),
    key=("id",),
)


class Recorded:
    """In place of a connection: keeps the statements and applies them to sets of keys."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Any]] = []
        self.alive: dict[str, set[int]] = {}
        self.changes: Counter[str] = Counter()

    def transaction(self) -> nullcontext[None]:
        return nullcontext()

    def execute(self, statement: bytes, values: Any = None) -> None:
        text = statement.decode()
        self.statements.append((text, values))
        words = text.split()
        if words[0] in ("INSERT", "DELETE") or (words[0] == "UPDATE" and "= ANY" in text):
            table = words[1] if words[0] == "UPDATE" else words[2]
            self._apply(words[0], self.alive.setdefault(table, set()), set(values["ids"]))
            self.changes[words[0]] += len(values["ids"])

    def _apply(self, kind: str, alive: set[int], ids: set[int]) -> None:
        if kind == "INSERT":
            assert not alive & ids
            alive |= ids
            return
        assert ids <= alive and MARKER not in ids
        if kind == "DELETE":
            alive -= ids


def workload(seed: int = 1) -> tuple[PeersWorkload, Recorded]:
    recorded = Recorded()
    made = PeersWorkload(cast(Any, recorded), rows=3_000, seed=seed)
    made.create("FULL")
    recorded.changes.clear()
    return made, recorded


def test_a_burst_is_exactly_as_long_as_asked_and_changes_only_rows_that_are_there() -> None:
    made, recorded = workload()
    made.burst(20_500)
    assert sum(recorded.changes.values()) == 20_500
    assert recorded.changes["INSERT"] == 4_100
    assert recorded.changes["DELETE"] == 2_050


def test_deleted_keys_come_back() -> None:
    made, recorded = workload()
    made.burst(20_000)
    inserted = Counter(
        (text.split()[2], key)
        for text, values in recorded.statements
        if text.startswith("INSERT")
        for key in values["ids"]
    )
    assert max(inserted.values()) > 1


def test_equal_seeds_make_equal_changes_and_others_do_not() -> None:
    histories = []
    for seed in (1, 1, 2):
        made, recorded = workload(seed)
        made.burst(5_000)
        for _ in range(50):
            made.single()
        histories.append(recorded.statements)
    assert histories[0] == histories[1] != histories[2]


def test_a_delta_table_is_read_by_key_and_whole(tmp_path: Path) -> None:
    assert local_table(tmp_path, "peer_1") is None
    make_tables(tmp_path, ["peer_1"], {})
    rows = [{"id": 0, "v": 7, "note": "n", "body": None, "price": None, "updated_at": 0}]
    write_deltalake(
        str(tmp_path / "peer_1"), pa.Table.from_pylist(rows, schema=SCHEMA), mode="append"
    )
    table = local_table(tmp_path, "peer_1")
    assert table is not None
    assert (value_of(table, 0), value_of(table, 1)) == (7, None)
    assert list(delta_rows(table, CONTRACT)) == [
        ("0", "7", "n", None, None, "1970-01-01 00:00:00+00")
    ]


def test_a_key_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    row = {"id": 0, "v": 7, "note": "n", "body": None, "price": None, "updated_at": 0}
    write_deltalake(str(tmp_path / "t"), pa.Table.from_pylist([row, row], schema=SCHEMA))
    table = local_table(tmp_path, "t")
    assert table is not None
    with pytest.raises(AssertionError, match="2 rows have the key 0"):
        value_of(table, 0)


def test_rows_that_the_java_reader_wrote_are_canonical_texts(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("5\t7\t\\N\tbody\t1.50\t2026-01-01T00:00:09Z\n")
    assert list(file_rows(tmp_path / "rows", CONTRACT)) == [
        ("5", "7", None, "body", "1.50", "2026-01-01 00:00:09+00")
    ]


def test_the_peers_own_files_are_locked_as_they_are_wished() -> None:
    requirements, lock = read_requirements(HERE), read_lock(HERE)
    assert set(lock.groups) == set(requirements.groups)
    for name in requirements.groups:
        files = {file.coordinate for file in lock.files(requirements, name)}
        assert set(requirements.group(name).coordinates) <= files
