"""Three readers of silver, run like by users, give the same changes of a table: those that were written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.cli.verbs.data.read import Library
from app.lake.lakehouse import Lakehouse
from spark_streaming.contract.contract import Contract
from spark_streaming.contract.types import Column
from spark_streaming.fold.keyed import Folded
from spark_streaming.tables.engine_protocol import Commit
from spark_streaming.tables.engines.delta_rs import DeltaRsEngine
from spark_streaming.tables.silver_table import SilverTable, TableOptions
from tests.support.folded import rows
from tests.support.intake import rows_of
from tests.support.stack import Stack, fresh_stack
from tests.support.waiting import until

SOON_S = 90.0
RUN_S = 600.0
READERS = tuple(library.value for library in Library)
AT = datetime(2026, 11, 21, 12, 0, 0, 123_456, timezone.utc)
AT_TEXT = "2026-11-21T12:00:00.123456Z"
KINDS = Contract(
    "public",
    "kinds",
    (
        Column("id", "bigint", "int64", nullable=False),
        Column("small", "smallint", "int16"),
        Column("flag", "boolean", "bool"),
        Column("real", "real", "float32"),
        Column("double", "double precision", "float64"),
        Column("price", "numeric(20,4)", "decimal", precision=20, scale=4),
        Column("text", "text", "text"),
        Column("bytes", "bytea", "bytes"),
        Column("day", "date", "date"),
        Column("plain", "timestamp", "timestamp"),
        Column("zoned", "timestamptz", "timestamptz"),
        Column("list", "numeric(9,2)[]", "array", element="decimal", precision=9, scale=2),
        Column('odd `name"', "text[]", "array", element="text"),
    ),
    key=("id",),
)
FULL = {
    "id": 2**53 + 1,
    "small": -32_768,
    "flag": True,
    "real": 0.1,
    "double": math.inf,
    "price": Decimal("12.3000"),
    "text": 'a "quoted"\nline, ü \u2028 🎬',
    "bytes": b"\x00\xff",
    "day": date(1, 1, 1),
    "plain": datetime(1582, 10, 10, 12, 0, 0, 1),
    "zoned": AT.astimezone(timezone(timedelta(hours=5))),
    "list": [Decimal("1.50"), None],
    'odd `name"': ["x", None, ""],
}
FULL_TOLD = {
    "id": 2**53 + 1,
    "small": -32_768,
    "flag": True,
    "real": 0.10000000149011612,
    "double": "Infinity",
    "price": "12.3000",
    "text": 'a "quoted"\nline, ü \u2028 🎬',
    "bytes": "AP8=",
    "day": "0001-01-01",
    "plain": "1582-10-10T12:00:00.000001",
    "zoned": AT_TEXT,
    "list": ["1.50", None],
    'odd `name"': ["x", None, ""],
}
EMPTY = {column.name: None for column in KINDS.columns}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The object store and the intake, in a lake whose tables record their changes."""
    profile = tmp_path_factory.mktemp("profile") / "profile.toml"
    profile.write_text('change_data_feed = "*"\n')
    with fresh_stack() as fresh:
        fresh.up("--only", "intake", "--profile", str(profile))
        yield fresh


@pytest.fixture(scope="module")
def kinds(stack: Stack) -> SilverTable:
    lake = Lakehouse(stack.settings).lake
    table = SilverTable(lake, "kinds", KINDS, TableOptions(change_data_feed="*"))
    assert table.ensure()
    merge(table, 1, FULL, {**EMPTY, "id": 1}, {**EMPTY, "id": 2, "text": "goes"})
    return table


def merge(table: SilverTable, version: int, *given: dict[str, Any]) -> None:
    """Merge rows like the streaming job; `_op` d deletes."""
    its = [{"_lsn": version, "_committed_at": AT, **row} for row in given]
    DeltaRsEngine().merge(table, Folded(rows(KINDS, *its)), Commit("t", version))


def read(stack: Stack, reader: str, *words: str, expect: int = 0) -> tuple[list[Any], str]:
    """A reader's lines, sorted because a version's lines have no order, and its log."""
    ended = stack.run("read", *words, "--with", reader, timeout_s=RUN_S, expect=expect)
    lines = [json.loads(line) for line in filter(None, ended.stdout.split("\n"))]
    return sorted(lines, key=lambda line: json.dumps(line, sort_keys=True)), ended.stderr


def read_by_all(stack: Stack, folder: Path, table: str, *words: str) -> list[Any]:
    """The lines of all readers, each with its own state; they must agree."""

    def one(reader: str) -> list[Any]:
        return read(stack, reader, table, "--state", str(folder / reader), *words)[0]

    with ThreadPoolExecutor() as pool:
        found = dict(zip(READERS, pool.map(one, READERS), strict=True))
    for reader in READERS:
        assert found[reader] == found[READERS[0]], reader
    states = {(folder / reader).read_text() for reader in READERS}
    assert len(states) == 1
    return found[READERS[0]]


def told(lines: list[Any]) -> list[tuple[str, int, int, Any]]:
    """(change, version, _lsn, row without metadata) of each line."""
    found = []
    for line in lines:
        row = {name: value for name, value in line["row"].items() if not name.startswith("_")}
        assert line["row"]["_committed_at"] == AT_TEXT
        assert line["row"]["_merged_at"].endswith("Z")
        found.append((line["change"], line["version"], line["row"]["_lsn"], row))
    return sorted(found, key=str)


def test_all_readers_tell_the_same_rows_and_the_same_changes_and_of_their_runs(
    stack: Stack, kinds: SilverTable, tmp_path: Path
) -> None:
    lines = read_by_all(stack, tmp_path, "kinds")
    goes = {**EMPTY, "id": 2, "text": "goes"}
    assert told(lines) == sorted(
        [
            ("read", 1, 1, FULL_TOLD),
            ("read", 1, 1, {**EMPTY, "id": 1}),
            ("read", 1, 1, goes),
        ],
        key=str,
    )
    assert {line["timestamp"] for line in lines} == {committed_at(kinds, 1)}

    merge(kinds, 2, {**EMPTY, "id": 1, "double": math.nan}, {**goes, "_op": "d"})
    merge(kinds, 3, {**EMPTY, "id": 3, "price": Decimal("-0.0001")})
    kinds.handle().optimize.compact()  # no change of rows: files are compacted
    lines = read_by_all(stack, tmp_path, "kinds", "--send-runs")
    newest = kinds.version()
    changed = {**EMPTY, "id": 1, "double": "NaN"}
    assert told(lines) == sorted(
        [
            ("update_preimage", 2, 1, {**EMPTY, "id": 1}),
            ("update_postimage", 2, 2, changed),
            ("delete", 2, 1, goes),
            ("insert", 3, 3, {**EMPTY, "id": 3, "price": "-0.0001"}),
        ],
        key=str,
    )
    await_runs(stack, newest)


def committed_at(table: SilverTable, version: int) -> str:
    """The time of a commit in the log, in the form of a line."""
    path = f"{table.path}/_delta_log/{version:020}.json"
    log = table.lake.filesystem().open_input_file(path).readall()
    actions = [json.loads(line) for line in log.splitlines()]
    [info] = [action["commitInfo"] for action in actions if "commitInfo" in action]
    moment = datetime.fromtimestamp(info["timestamp"] / 1000, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def await_runs(stack: Stack, newest: int) -> None:
    """Each reader's run with its states, and its log line."""
    services = {f"{reader}-reader" for reader in READERS}
    runs = until(
        lambda: [r for r in rows_of(stack, "app_runs") if r["service"] in services],
        lambda found: len(found) == 2 * len(services),
        within_s=SOON_S,
        what="two states of each run",
    )
    assert {(r["service"], r["state"]) for r in runs} == {
        (service, state) for service in services for state in ("started", "ended")
    }
    for run in runs:
        details = json.loads(run["details"])
        assert details["table"] == "s3://lake/silver/kinds"
        if run["state"] == "ended":
            assert (details["lines"], details["version"]) == (4, newest)
    logs = until(
        lambda: [r for r in rows_of(stack, "app_logs") if r["service"] in services],
        lambda found: len(found) == len(services),
        within_s=SOON_S,
        what="a line of each run's log",
    )
    assert {row["run_id"] for row in logs} == {run["run_id"] for run in runs}
    assert all(row["message"].startswith("4 lines of s3://") for row in logs)


@pytest.mark.parametrize("reader", ["deltalake", pytest.param("java", marks=pytest.mark.slow)])
def test_a_stream_is_followed_by_version_too(
    stack: Stack, kinds: SilverTable, tmp_path: Path, reader: str
) -> None:
    read(stack, reader, "kinds", "--rows-max", "1", "--send-runs")
    until(lambda: len(rows_of(stack, "app_runs")), within_s=SOON_S, what="a run in the lake")
    rows, _ = read(stack, reader, "app_runs")
    changes, _ = read(stack, reader, "app_runs", "--from", "0")
    assert {line["change"] for line in changes} == {"insert"}
    assert {line["row"]["event_key"] for line in rows} <= {
        line["row"]["event_key"] for line in changes
    }
    days = {line["row"]["day"] for line in changes}
    assert all(date.fromisoformat(day) for day in days)


@pytest.mark.parametrize("reader", ["deltalake", pytest.param("java", marks=pytest.mark.slow)])
def test_what_a_reader_cannot_do_is_told_in_one_message(
    stack: Stack, kinds: SilverTable, tmp_path: Path, reader: str
) -> None:
    lake = kinds.lake
    plain = SilverTable(lake, f"plain_{reader}", KINDS, TableOptions())
    plain.ensure()
    merge(plain, 1, {**EMPTY, "id": 1})
    state = str(tmp_path / "state")
    for words, message, hint in (
        (["none"], "there is no Delta table at s3://lake/silver/none", "SHOW TABLES"),
        ([plain.name, "--from", "1"], "has no change data feed at version 1", plain.name),
        (["kinds", "--from", "0", "--rows-max", "1"], "", ""),
        (["kinds", "--rows-max", "1", "--state", state], "has more than 1 rows", "--rows-max"),
        (["kinds", "--from", "99"], "has no version 99", "made again"),
    ):
        lines, log = read(stack, reader, *words, expect=1 if message else 0)
        assert message in log and hint in log
        assert "Traceback" not in log and "\tat " not in log
        if not message:  # only complete versions
            assert {line["version"] for line in lines} == {1}
    assert not Path(state).exists()
