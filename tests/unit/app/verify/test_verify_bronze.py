"""Whether a bronze partition is complete, compared with Kafka's remaining records."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pa_fs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verify.bronze_check import Committed, Gap, PartitionReport, check_partition
from app.verify.bronze_records import ERASED, Bronze, Line, UnreadableObjectError, record_digest
from app.verify.verify_bronze import ExplainedGaps
from spark_streaming.reading.erased_events import HEADER

NO_KAFKA = 1 << 40


def line(offset: int, at: int | None = None, text: str = "") -> Line:
    """A line of the object that begins at offset `at` (default: the line's own)."""
    return Line(f"t/{at if at is not None else offset:020}.jsonl.gz", offset, text.encode())


def checked(
    offsets: Iterable[int],
    kafka: Iterable[int] = (),
    kafka_from: int = NO_KAFKA,
    explained: Iterable[Gap] = (),
) -> PartitionReport:
    lines = [line(offset) for offset in offsets]
    committed = [Committed(offset, b"") for offset in kafka]
    return check_partition(lines, committed, kafka_from, explained=explained)


def test_one_missing_offset_is_the_marker_of_a_transaction() -> None:
    report = checked([0, 1, 3, 4, 6])
    assert report.complete
    assert (report.first, report.last, report.records, report.objects) == (0, 6, 5, 5)


def test_a_gap_that_kafka_cannot_explain_any_more_is_named_with_its_neighbours() -> None:
    [found] = checked([0, 1, 5]).findings
    assert (found.kind, found.first, found.last) == ("gap", 2, 4)
    assert "00001.jsonl.gz" in found.where and "00005.jsonl.gz" in found.where


def test_a_missing_beginning_is_a_gap() -> None:
    assert [f.span for f in checked([7, 8]).findings] == ["0 to 6"]


def test_a_wide_gap_that_kafka_explains_is_remembered() -> None:
    first = checked([0, 9], kafka=[0, 9], kafka_from=0)
    assert first.complete and first.explained == [(1, 8)]
    assert checked([0, 9], explained=first.explained).complete
    again = checked([0, 9], kafka=[0, 9], kafka_from=0, explained=first.explained)
    assert again.explained == first.explained


def test_records_that_kafka_has_and_bronze_has_not_are_missing_and_explain_nothing() -> None:
    report = checked([0, 9], kafka=[0, 3, 4, 9], kafka_from=0)
    [found] = report.findings
    assert (found.kind, found.first, found.last, found.count) == ("missing", 3, 4, 2)
    assert report.explained == []


def test_a_single_lost_record_is_found_where_kafka_still_has_it() -> None:
    assert checked([0, 2], kafka=[0, 1, 2], kafka_from=0).counts == {"missing": 1}


def test_the_missing_end_is_found() -> None:
    [found] = checked([0, 1], kafka=[0, 1, 2, 3], kafka_from=0).findings
    assert (found.kind, found.span) == ("missing", "2 to 3")


def test_a_topic_that_bronze_does_not_have_at_all_is_missing() -> None:
    assert checked([], kafka=[4, 5], kafka_from=4).counts == {"missing": 2}


def test_a_repeated_offset_is_named_with_its_second_object() -> None:
    lines = [line(0, 0), line(1, 0), line(1, 1), line(2, 1)]
    report = check_partition(lines, [], NO_KAFKA)
    assert report.counts == {"repeat": 1} and "00001.jsonl.gz" in report.findings[0].where


def test_other_bytes_than_in_kafka_are_found() -> None:
    report = check_partition([line(0, text="x")], [Committed(0, b"y")], 0)
    assert report.counts == {"differs": 1}


def test_a_record_that_kafka_does_not_deliver_is_found() -> None:
    assert checked([0, 1, 2], kafka=[0, 2], kafka_from=0).counts == {"uncommitted": 1}


def test_an_object_that_begins_with_another_offset_than_its_name_is_found() -> None:
    assert check_partition([line(1, 0)], [], NO_KAFKA).counts == {"misplaced": 1}


@given(
    st.sets(st.integers(0, 60), min_size=1),
    st.sets(st.integers(0, 60)),
    st.integers(0, 61),
)
def test_from_where_kafka_begins_exactly_the_lost_records_are_missing(
    committed: set[int], lost: set[int], kafka_from: int
) -> None:
    kept = sorted(committed - lost)
    in_kafka = sorted(offset for offset in committed if offset >= kafka_from)
    report = checked(kept, in_kafka, kafka_from)
    assert report.counts.get("missing", 0) == len(set(in_kafka) & lost)
    assert not {"repeat", "differs", "uncommitted", "misplaced"} & set(report.counts)
    assert report.records == len(kept)


def put(root: Path, first: int, lines: list[dict[str, object]], name: str = "") -> None:
    folder = root / "hw.a" / "partition=0" / f"block={first // 10_000:016}"
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / (name or f"{first:020}.jsonl.gz")).write_bytes(gzip.compress(text.encode()))


def record(offset: int, value: object = "v") -> dict[str, object]:
    place = {"topic": "hw.a", "partition": 0, "offset": offset, "timestamp": 5}
    return {**place, "headers": [["h", "1"]], "key": None, "value": value}


@pytest.fixture
def bronze(tmp_path: Path) -> Bronze:
    return Bronze(pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem()))


def test_objects_are_read_in_the_order_of_their_offsets(tmp_path: Path, bronze: Bronze) -> None:
    for first in (10_000, 9_998, 20_005):
        put(tmp_path, first, [record(first)])
    put(tmp_path, 9_999, [], name="00000000000000009999.jsonl.gz-8c5f")
    assert bronze.topics() == ["hw.a"] and bronze.partitions("hw.a") == [0]
    paths = list(bronze.objects("hw.a", 0))
    assert [one.offset for path in paths for one in bronze.lines(path)] == [9_998, 10_000, 20_005]
    assert list(bronze.objects("hw.a", 0, after=paths[1])) == paths[2:]
    assert list(bronze.objects("hw.b", 0)) == []


class Store:
    """A bucket on disk that counts requests, one for each read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.requests = 0

    def open_input_stream(self, path: str, compression: None, buffer_size: int = 0) -> Any:
        store = self

        class Pieces(io.FileIO):
            def read(self, size: int | None = -1, /) -> bytes:
                store.requests += 1
                return super().read(-1 if size is None else size)

        opened = pa.PythonFile(Pieces(self._root / path), mode="r")
        return pa.BufferedInputStream(opened, buffer_size) if buffer_size else opened


def test_an_object_is_read_in_a_few_requests_however_small_the_pieces_it_is_unpacked_in(
    tmp_path: Path,
) -> None:
    noise = random.Random(7)
    put(tmp_path, 0, [record(n, noise.randbytes(3_000).hex()) for n in range(100)])
    store = Store(tmp_path)
    documents = Bronze(store).documents(
        "hw.a/partition=0/block=0000000000000000/" + f"{0:020}.jsonl.gz"
    )
    assert [one["offset"] for one in documents] == list(range(100))
    assert store.requests < 10  # unbuffered it would be one for each 8 KB: 79


def test_a_line_has_the_digest_of_its_record(tmp_path: Path, bronze: Bronze) -> None:
    put(tmp_path, 0, [record(0), record(1, {"b64": "/w=="}), record(2, None)])
    [path] = bronze.objects("hw.a", 0)
    wanted = [record_digest(5, [("h", b"1")], None, v) for v in (b"v", b"\xff", None)]
    assert [one.digest for one in bronze.lines(path)] == wanted
    assert len(set(wanted)) == 3


def test_a_damaged_object_is_told_by_its_path(tmp_path: Path, bronze: Bronze) -> None:
    put(tmp_path, 0, [record(0)])
    [path] = bronze.objects("hw.a", 0)
    whole = (tmp_path / path).read_bytes()
    for damaged in (b"no gzip", whole[: len(whole) // 2], gzip.compress(b"{}\n")):
        (tmp_path / path).write_bytes(damaged)
        with pytest.raises(UnreadableObjectError, match=r"00000\.jsonl\.gz"):
            list(bronze.lines(path))


def test_explained_gaps_are_kept_in_the_home(tmp_path: Path) -> None:
    gaps = ExplainedGaps(tmp_path / "verify" / "bronze.json")
    gaps.save("t", 0, [(1, 8)])
    assert ExplainedGaps(tmp_path / "verify" / "bronze.json").of("t", 0) == [(1, 8)]
    assert gaps.of("t", 1) == []


def test_an_erased_event_is_complete_by_its_place_and_counted_apart() -> None:
    lines = [line(0, text="a"), line(1)._replace(digest=ERASED), line(2, text="c")]
    committed = [Committed(0, b"a"), Committed(1, b"of the row"), Committed(2, b"c")]
    report = check_partition(lines, committed, 0)
    assert report.complete and (report.records, report.compared, report.erased) == (3, 3, 1)
    # Its place must be there once, as any other's.
    report = check_partition([lines[0], lines[2]], committed, 0)
    assert report.counts == {"missing": 1}
    report = check_partition([*lines[:2], lines[1], lines[2]], committed, 0)
    assert report.counts == {"repeat": 1}


def test_a_bronze_line_is_erased_by_its_header_alone(tmp_path: Path) -> None:
    block = tmp_path / "t" / "partition=0" / f"block={0:016}"
    block.mkdir(parents=True)
    empty = {
        "topic": "t",
        "partition": 0,
        "timestamp": 1,
        "headers": [],
        "key": None,
        "value": None,
    }
    gone = {**empty, "headers": [[HEADER, "{}"]]}
    lines = [{**one, "offset": number} for number, one in enumerate((empty, gone))]
    body = "".join(json.dumps(one) + "\n" for one in lines).encode()
    (block / f"{0:020}.jsonl.gz").write_bytes(gzip.compress(body))
    bronze = Bronze(pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem()))
    [path] = bronze.objects("t", 0)
    assert [one.digest == ERASED for one in bronze.lines(path)] == [False, True]
