"""A lake, a bronze and a Kafka on disk and in memory, in which an erasure runs as the command runs it."""

from __future__ import annotations

import gzip
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as parquet
import pytest
from deltalake import write_deltalake

from app.erase import erase_command, kafka_records, old_files, remainders
from app.erase.bronze_objects import BronzeObjects
from app.erase.erase_command import Erase
from app.erase.erase_plan import Plans
from app.erase.kafka_records import Span
from app.erase.receipt import PATH, Receipt, Receipts
from app.lake.lakehouse import Lakehouse, LedgerEntry
from app.printing import Steps
from spark_streaming.compaction.bronze_store import BronzeStore
from spark_streaming.compaction.compactor import Compactor, Done
from spark_streaming.compaction.packing import Limits
from spark_streaming.contract.contract_store import ContractStore
from spark_streaming.contract.lsn import Lsn
from spark_streaming.events.envelope import HighWater
from spark_streaming.events.event import RawEvent, Reject
from spark_streaming.history.erasures import Erasures
from spark_streaming.ops.erase_requests import EraseDesk, planned_topics
from spark_streaming.quarantine.quarantine import Quarantine
from spark_streaming.storage.s3_request import Answer
from spark_streaming.tables.silver_names import SilverNames
from tests.support.bronze_bucket import STORE, Folder, answer
from tests.unit.debezium_events import TOPIC, event, raw
from tests.unit.model import KEYED
from tests.unit.spark_streaming.history.history_world import OPTIONS, HistoryWorld

PERSON = "Ana Moreira"
COMMITS = tuple(range(15, 96, 10))


def film(op: str, number: int, lsn: int, note: str, **more: Any) -> RawEvent:
    row = {"id": number, "note": note, "big": "b"}
    after = None if op == "d" else row
    made = event(op, lsn=lsn, after=after, commit=lsn - 5, offset=lsn // 10 - 1, **more)
    return made._replace(key=f'{{"id":{number}}}'.encode())


# Row 1 was row 5 before; row 2 is somebody else's.
EVENTS = [
    film("c", 5, 10, f"{PERSON} 1"),
    film("c", 2, 20, "other"),
    film("d", 5, 30, "", headers={"newkey": {"id": 1}}),
    film("c", 1, 40, f"{PERSON} 2", headers={"oldkey": {"id": 5}}),
    film("u", 2, 50, "another"),
    film("u", 1, 60, f"{PERSON} 3"),
    film("u", 1, 70, f"{PERSON} 4"),
    film("d", 1, 80, ""),
    raw(None, offset=8, key=b'{"id":1}'),
]
ERASED = 7


class Killed(BaseException):
    """The command ends here."""


# Everything is packed at once, and the small objects go at once.
SOON = Limits(old_s=-1, old_objects=1, young_s=-1, kept_s=-1)


class EraseWorld:
    """The table `films` with a deleted row 1 in all stores; `steps` counts what could be interrupted."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, made: Path | None = None
    ) -> None:
        """`made`: the folder of another such world in which nothing was erased yet; it is copied."""
        self._history = HistoryWorld(folder, 'history = "each"')
        self.lake = self._history.lake
        self._folder = folder
        self._quarantine = Quarantine(self.lake, "q", OPTIONS.properties())
        if made is None:
            self._make()
        else:
            shutil.copytree(made, folder, dirs_exist_ok=True)
            self._history.ends[0] = len(EVENTS)
        self._pass = self._history.process()
        self._pass.run()
        self.kafka_from = 0
        self.steps, self.kill_at = 0, -1
        self._patch(monkeypatch)

    def _make(self) -> None:
        self._history.put(EVENTS)
        self._history.commit(COMMITS)
        self._quarantine.put({"films": [Reject(EVENTS[6], "odd", f"{PERSON} is odd")]}, 0)
        ContractStore(self.lake, "").keep(KEYED)
        for rows in ([(1, f"{PERSON} 3", 60), (2, "other", 20)], [(2, "another", 50)]):
            self._write_silver(rows)

    def erase(
        self, key: str = "1", *, keep_kafka: bool = False, dry_run: bool = False, wait_s: float = 5
    ) -> Receipt:
        """Run the command."""
        with Steps() as steps:
            command = Erase(
                self._settings(), "films", key, steps, wait_s=wait_s, keep_kafka=keep_kafka
            )
            return command.dry_run() if dry_run else command.run()

    def traces(self) -> list[str]:
        """Where the person's name still is."""
        found = []
        bronze = self._history.files
        for info in bronze.get_file_info(pa_fs.FileSelector(TOPIC, recursive=True)):
            if info.is_file:
                with bronze.open_input_stream(info.path, compression=None) as stream:
                    found += ["bronze"] * gzip.decompress(stream.read()).decode().count(PERSON)
        for path in sorted((self._folder / "lake").rglob("*")):
            store = path.relative_to(self._folder / "lake").parts[0]
            if path.suffix == ".parquet" and "_delta_log" not in path.parts:
                found += [store] * (PERSON in repr(parquet.read_table(path).to_pylist()))
            elif path.suffix == ".json" and "_delta_log" not in path.parts:
                found += [store] * any(
                    word in path.read_text() for word in ('"values": [1]', PERSON)
                )
        found += ["kafka" for e in EVENTS[self.kafka_from :] if PERSON.encode() in (e.value or b"")]
        return found

    def history(self) -> list[tuple[Any, ...]]:
        """Key and note of all versions."""
        return self._history.versions("id", "note")

    def receipts(self) -> list[dict[str, Any]]:
        """The rows of `ops.erasures`."""
        if not self.lake.exists(PATH):
            return []
        rows: list[dict[str, Any]] = self.lake.table(PATH).to_pyarrow_table().to_pylist()
        return rows

    @property
    def bronze(self) -> Folder:
        """Bronze's objects."""
        return Folder(self._folder / "bronze")

    def compactor(self, limits: Limits = SOON) -> Compactor:
        """What packs this bronze."""
        planned = partial(planned_topics, self.lake.filesystem())
        return Compactor(BronzeStore(STORE, self._ask), planned, limits, Done())

    def serve(self, *_: float) -> None:
        """The silver job works for a while."""
        erasures = Erasures(
            EraseDesk(self.lake),
            self._quarantine,
            SimpleNamespace(resolve=lambda *_: SimpleNamespace(quarantined=None)),  # type: ignore[arg-type]
            lambda table: table == "films",
            self._pass.erase,
        )
        erasures.serve()
        self._pass.run()
        erasures.serve()

    def _write_silver(self, rows: list[tuple[int, str, int]]) -> None:
        ids, notes, lsns = zip(*rows, strict=True)
        table = {"id": pa.array(ids, pa.int32()), "note": notes, "_lsn": pa.array(lsns, pa.int64())}
        path = self.lake.url(self.lake.silver_path("films"))
        write_deltalake(path, pa.table(table), mode="overwrite")

    def _settings(self) -> Any:
        return SimpleNamespace(
            lake=self.lake,
            files=self._history.files,
            home=self._folder,
            topic_prefix="hw",
            contracts_folders=[self._folder / "contracts"],
            secret=lambda _: "secret",
            store=SimpleNamespace(bronze_bucket="bronze"),
            kafka=None,
            profile=SimpleNamespace(audit=False),
            capture_dsn="",
        )

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = self

        class Stores(Lakehouse):
            def __init__(self, settings: Any) -> None:
                self._lake, self._store = settings.lake, settings.store
                self._names = SilverNames(settings.lake)

            def bronze_files(self) -> Any:
                return world._history.files

            def complete_lsn(self) -> Lsn:
                return Lsn(999)

            def ledger(self, *_: Any, **__: Any) -> dict[str, LedgerEntry]:
                now = datetime.now(timezone.utc)
                offsets = {TOPIC: {0: len(EVENTS)}}
                return {"films": LedgerEntry("films", 1, 1, offsets, Lsn(80), now, HighWater())}

        monkeypatch.setattr(erase_command, "Lakehouse", Stores)
        monkeypatch.setattr(erase_command, "BronzeObjects", lambda s: BronzeObjects(s, self._ask))
        monkeypatch.setattr(erase_command, "compactor_of", lambda *_: self.compactor())
        monkeypatch.setattr(erase_command, "gone_from_source", lambda *_: Lsn(90))
        monkeypatch.setattr(erase_command, "is_behind", lambda *_: False)
        clock = SimpleNamespace(sleep=self.serve, monotonic=time.monotonic)
        monkeypatch.setattr(erase_command, "time", clock)
        monkeypatch.setattr(kafka_records, "spans", self._spans)
        monkeypatch.setattr(kafka_records, "delete", self._interrupted(self._delete))
        monkeypatch.setattr(remainders, "retention_ms", lambda *_: 60_000)
        monkeypatch.setattr(remainders, "publications", lambda _: [])
        monkeypatch.setattr(erase_command, "remove", self._interrupted(old_files.remove))
        for kind, name in (
            (Plans, "keep"), (Plans, "remove"), (EraseDesk, "ask"), (EraseDesk, "remove"), (Receipts, "add"),
        ):  # fmt: skip
            monkeypatch.setattr(kind, name, self._interrupted(getattr(kind, name)))

    def _interrupted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **more: Any) -> Any:
            self._count()
            answer = step(*words, **more)
            self._count()
            return answer

        return run

    def _count(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed

    def _spans(self, _: Any, topic: str, erased: Mapping[int, list[int]]) -> list[Span]:
        left = [offset for offset in erased.get(0, ()) if offset >= self.kafka_from]
        upto = max(left, default=0) + 1
        return [Span(0, upto, len(left), upto - self.kafka_from)] if left else []

    def _delete(self, _: Any, topic: str, wanted: list[Span]) -> None:
        for span in wanted:
            self.kafka_from = span.upto

    def _ask(self, _: Any, method: str, bucket: str, key: str = "", **more: Any) -> Answer:
        if method == "GET":
            return answer(self.bronze, time.time(), method, key, **more)
        self._count()
        said = answer(self.bronze, time.time(), method, key, **more)
        self._count()
        return said
