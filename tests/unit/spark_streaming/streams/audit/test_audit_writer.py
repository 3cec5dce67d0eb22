"""From the audit's topic to its table, with crashes: each question once, in a row, a sum or a gap."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from spark_streaming.events.event import RawEvent
from spark_streaming.reading.offsets import BatchSpan
from spark_streaming.streams.audit import trino_probe
from spark_streaming.streams.audit.audit_stream import audit_stream
from spark_streaming.streams.audit.audit_writer import AuditWriter
from spark_streaming.streams.audit.file_changes import FileChanges
from spark_streaming.streams.audit.question_sums import OWN
from spark_streaming.streams.audit.refused_sign_ins import FILE, RefusedSignIns
from spark_streaming.streams.stream_metrics import StreamMetrics
from spark_streaming.streams.stream_settings import StreamSettings
from spark_streaming.streams.stream_writer import StreamQuarantine
from tests.support.disk_lake import DiskLake

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.timezone.utc)
TOPIC = "hw.audit-trino"
REGISTRAR = ("registrar", "headwater-registrar")
ANA = ("ana", "cli")


class Topic:
    """The topic's records, read as the service's reader does."""

    def __init__(self) -> None:
        self.records: list[RawEvent] = []

    def read(self, span: BatchSpan, bytes_max: int | None = None) -> dict[str, list[RawEvent]]:
        first, last = span.start[TOPIC].get(0, 0), span.end[TOPIC][0]
        return {TOPIC: self.records[first:last]}

    def put(self, document: dict[str, Any]) -> None:
        stamp = int(NOW.timestamp() * 1000)
        value = orjson.dumps(document)
        self.records.append(RawEvent(TOPIC, 0, len(self.records), stamp, None, value, []))

    def start(self, number: int, who: tuple[str, str] = ANA, coordinator: str = "abcde") -> None:
        self.put({"eventPayload": self._event(number, who, coordinator), "eventMetadata": {}})

    def end(self, number: int, who: tuple[str, str] = ANA, coordinator: str = "abcde") -> None:
        event = self._event(number, who, coordinator)
        event["metadata"]["tables"] = [
            {"catalog": "lake", "schema": "silver", "table": "customers",
             "filters": ["id > 1"], "columns": [{"column": "email", "mask": "'***'"}]}
        ]  # fmt: skip
        event |= {
            "statistics": {"cpuTime": 0.25, "wallTime": 1.5, "outputRows": 2, "outputBytes": 30},
            "ioMetadata": {"inputs": [], "output": None},
            "endTime": "2026-03-10T12:00:01.123456789Z",
        }
        self.put({"eventPayload": event, "eventMetadata": {}})

    def whole(self, *numbers: int, who: tuple[str, str] = ANA) -> None:
        for number in numbers:
            self.start(number, who)
            self.end(number, who)

    @staticmethod
    def _event(number: int, who: tuple[str, str], coordinator: str) -> dict[str, Any]:
        second = "120000" if coordinator == "abcde" else "130000"
        return {
            "createTime": "2026-03-10T12:00:00Z",
            "context": {"user": who[0], "source": who[1], "remoteClientAddress": "127.0.0.1",
                        "groups": ["b", "a"], "queryType": "SELECT"},
            "metadata": {"queryId": f"20260310_{second}_{number:05d}_{coordinator}",
                         "query": f"SELECT {number}", "queryState": "FINISHED"},
        }  # fmt: skip


class Service:
    """The writer with a clock of its own; `restart` forgets all that is not in the table."""

    def __init__(self, folder: Path, topic: Topic) -> None:
        self.lake = DiskLake(folder)
        self.topic = topic
        self.now = 0.0
        self.clock = NOW
        self.newest: str | None = None
        self.home = folder / "home"
        self.home.mkdir()
        self.metrics = StreamMetrics()
        self.restart()

    def restart(self) -> None:
        settings = StreamSettings.model_construct(
            store=None, topic_prefix="hw",  # type: ignore[arg-type]
            silver_retention_minutes=15,
            change_data_feed="", streams_batch_events_max=100, streams_batch_mb_max=32, audited_trino="",
        )  # fmt: skip
        quarantine = StreamQuarantine(self.lake, "streams", {})
        quarantine.ensure()
        self.writer = AuditWriter(
            settings, self.lake, self.topic, quarantine, audit_stream(), self.metrics,  # type: ignore[arg-type]
            clock=lambda: self.clock, probe=lambda: self.newest, monotonic=lambda: self.now,
            files=[FileChanges([], self.home, clock=lambda: time.time() + 60), RefusedSignIns(self.home)],
        )  # fmt: skip

    def step(self) -> None:
        while self.writer.step({0: len(self.topic.records)}):
            pass

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.step()

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        found = self.lake.table("ops/audit").to_pyarrow_dataset().to_table(columns=list(columns))
        return sorted(tuple(row.values()) for row in found.to_pylist())

    def offset(self) -> int | None:
        return self.lake.table("ops/audit").transaction_version(f"headwater:{TOPIC}:0")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    yield Service(tmp_path, Topic())


def test_a_persons_question_is_a_row_at_once_with_masks_and_filters(service: Service) -> None:
    service.topic.whole(0)
    service.step()
    [row] = service.rows(
        "kind", "query_id", "user_name", "groups", "statement", "tables", "columns", "masks", "filters", "cpu_ms",
        "wall_ms", "ended_at", "series", "numbers",
    )  # fmt: skip
    assert row == (
        "query", "20260310_120000_00000_abcde", "ana", "a, b", "SELECT 0", "silver.customers", "silver.customers.email",
        """{"silver.customers.email":"'***'"}""", '{"silver.customers":["id > 1"]}', 250, 1_500,
        NOW.replace(second=1, microsecond=123_456), "abcde/20260310", "0",
    )  # fmt: skip
    assert service.offset() is None


def test_the_stacks_own_questions_are_one_row_a_minute_with_their_numbers(service: Service) -> None:
    service.topic.whole(0, 1, 3, who=REGISTRAR)
    service.topic.whole(2)
    service.step()
    assert service.rows("kind") == [("query",)]
    service.wait(61)
    columns = ("kind", "user_name", "queries", "cpu_ms", "numbers", "tables", "statement")
    assert service.rows(*columns)[1] == (
        "sum", "registrar", 3, 750, "0-1,3", "silver.customers", None,
    )  # fmt: skip
    assert service.offset() == len(service.topic.records)


def test_who_claims_one_of_the_two_names_is_not_summed(service: Service) -> None:
    service.topic.whole(0, who=("registrar", "cli"))
    service.topic.whole(1, who=("ana", "headwater-registrar"))
    service.step()
    assert service.rows("kind") == [("query",), ("query",)]


@pytest.mark.parametrize("restart_after_s", [0, 30, 59, 61, 90])
def test_after_a_restart_at_any_moment_each_question_counts_once(
    service: Service, restart_after_s: int
) -> None:
    service.topic.start(0)  # runs meanwhile
    service.topic.whole(1, 2, 3, who=REGISTRAR)
    service.topic.whole(4, 5)
    service.wait(restart_after_s)
    service.restart()
    service.wait(5)
    service.topic.whole(6, who=REGISTRAR)
    service.topic.end(0)
    service.wait(130)
    assert [row for row in service.rows("kind", "numbers") if row[0] == "query"] == [
        ("query", "0"), ("query", "4"), ("query", "5"),
    ]  # fmt: skip
    sums = [row for row in service.rows("kind", "queries", "numbers") if row[0] == "sum"]
    assert sum(row[1] for row in sums) == 4
    assert service.rows("kind")[-1] == ("sum",)
    assert not [row for row in service.rows("kind") if row[0] in ("gap", "lost")]


def test_a_write_that_fails_after_it_was_counted_is_made_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.topic.whole(0, who=REGISTRAR)
    service.topic.whole(1)
    service.step()

    def away(*_: object) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(service.writer.table, "append", away)
        service.now += 61
        with pytest.raises(OSError, match="the store is away"):
            service.step()
    service.wait(130)
    assert service.rows("kind", "queries") == [("query", 1), ("sum", 1)]


def test_missing_numbers_are_a_gap_also_after_a_restart(service: Service) -> None:
    service.topic.whole(0, 3)
    service.wait(70)
    assert service.rows("kind", "numbers", "queries")[0] == ("gap", "1-2", 2)
    service.restart()
    service.wait(200)
    assert len(service.rows("kind")) == 3


def test_trinos_newest_number_shows_what_no_event_does(service: Service) -> None:
    service.newest = "20260310_120000_00004_abcde"
    service.step()
    service.wait(100)
    assert service.rows("kind", "series", "numbers") == [("gap", "abcde/20260310", "0-4")]


def test_a_question_that_trino_did_not_end_is_a_row_with_its_text(service: Service) -> None:
    service.topic.start(0)
    service.wait(5)
    service.topic.start(0, coordinator="fghij")
    service.topic.end(0, coordinator="fghij")
    service.wait(70)
    assert service.rows("kind", "user_name", "statement", "state") == [
        ("lost", "ana", "SELECT 0", None),
        ("query", "ana", "SELECT 0", "FINISHED"),
    ]


def test_verbs_are_rows_and_what_is_no_event_goes_to_quarantine(service: Service) -> None:
    service.topic.put(
        {"kind": "verb", "verb": "read", "key": "verb:1", "time": NOW.isoformat(),
         "user": "ana", "machine": "here", "words": "read orders", "tables": "silver.orders"}
    )  # fmt: skip
    service.topic.put({"eventPayload": {}})
    service.topic.put({"eventPayload": 7})
    service.topic.put({"verb": "read"})
    service.step()
    service.restart()
    service.step()
    assert service.rows("kind", "user_name", "client_address", "statement", "tables") == [
        ("verb", "ana", "here", "read orders", "silver.orders")
    ]
    entries = service.lake.table("ops/stream_quarantine").to_pyarrow_dataset().to_table()
    assert entries["rule"].to_pylist() == ["not-an-event"] * 3


def test_a_change_of_the_rules_is_a_row_once_though_the_service_was_killed_after_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.clock = dt.datetime.now(dt.timezone.utc)  # a file's own time is that of the machine
    service.wait(2)
    (service.home / "access.toml").write_text("[roles.support]\npersonal = 'show'\n")

    service.now += 2
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(FileChanges, "keep", _killed)
        service.step()
    service.restart()
    service.wait(5)
    assert service.rows("kind", "query_type", "detail") == [
        ("change", "rules added", '{"roles.support.personal": "added: show"}')
    ]


def test_a_refused_sign_in_is_a_row_once_though_the_service_was_killed_after_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = service.home / FILE
    file.parent.mkdir()

    def refuse(user: str, omitted: int = 0) -> None:
        line = {"key": user, "time": NOW.isoformat(), "user": user, "omitted": omitted}
        with file.open("ab") as out:
            out.write(orjson.dumps(line) + b"\n")

    refuse("ana")
    service.wait(1)
    refuse("eve", omitted=40)  # while the file is being read
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(RefusedSignIns, "keep", _killed)
        service.wait(1)
    service.restart()
    with file.open("ab") as out:
        out.write(b'{"key": "half\n')
    service.wait(5)
    assert service.rows("kind", "queries", "user_name", "query_type") == [
        ("refused", 1, "ana", "sign-in"),
        ("refused", 1, "eve", "sign-in"),
        ("refused", 40, None, "sign-in"),
    ]
    assert [path for path in file.parent.iterdir() if path.is_file()] == []


def test_the_plugin_writes_the_file_that_is_read() -> None:
    properties = Path(__file__).resolve().parents[5] / "trino" / "signed" / "refusals.properties"
    assert f"file=${{home}}/{FILE}\n" in properties.read_text()


def _killed(*_: object) -> None:
    raise OSError("killed")


def test_own_programs_are_those_that_name_themselves_so() -> None:
    root = Path(__file__).resolve().parents[5]
    text = "".join(path.read_text() for path in (root / "app").rglob("*.py"))
    text += Path(trino_probe.__file__).read_text()
    for _, source in OWN:
        assert f'"{source}"' in text
