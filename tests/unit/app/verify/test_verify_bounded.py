"""`verify --bronze` keeps counts, not offsets: its memory does not grow with the number of events."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

from app.verify.bronze_check import Committed, PartitionReport, check_partition
from app.verify.bronze_records import Line
from spark_streaming.reading.bronze_names import Span, packed_path
from spark_streaming.reading.bronze_proof import Proof

EVENTS_OF_AN_OBJECT = 1_000
DIGEST = b"d" * 16
# A list of the offsets of the larger run takes 8 MB, a set of them 16 MB.
GROWTH_BYTES_MAX = 200_000


def lines(events: int) -> Iterator[Line]:
    """Packed objects of a thousand events; each hundredth offset is a marker, each ten-thousandth event comes twice."""
    for first in range(0, events, EVENTS_OF_AN_OBJECT):
        path = packed_path("t", 0, Span(first, first + EVENTS_OF_AN_OBJECT - 1))
        proof = Proof(max(0, first - 1), None)  # the offset before is a marker
        for offset in range(first, first + EVENTS_OF_AN_OBJECT):
            if offset % 100 != 99:
                yield Line(path, offset, DIGEST, proof)
            if offset % 10_000 == 5:
                yield Line(path, offset, DIGEST, proof)


def committed(first: int, events: int) -> Iterator[Committed]:
    return (Committed(offset, DIGEST) for offset in range(first, events) if offset % 100 != 99)


def checked(events: int) -> tuple[PartitionReport, int]:
    tracemalloc.start()
    try:
        kafka_from = events // 2
        report = check_partition(lines(events), committed(kafka_from, events), kafka_from)
        return report, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_ten_times_as_many_events_take_no_more_memory() -> None:
    few, memory_of_few = checked(20_000)
    many, memory_of_many = checked(200_000)
    assert few.counts == {"repeat": 2} and many.counts == {"repeat": 20}
    assert (few.records, many.records) == (19_800, 198_000)
    assert memory_of_many < memory_of_few + GROWTH_BYTES_MAX


def test_what_was_deleted_by_age_is_no_gap_and_what_lacks_behind_it_is() -> None:
    kept = (line for line in lines(20_000) if line.offset >= 5_000 and line.offset % 10_000 != 5)
    assert check_partition(kept, iter(()), 20_000, kept_from=5_000).complete
    late = (
        line._replace(proof=Proof(line.offset, None))
        for line in lines(20_000)
        if line.offset >= 7_000
    )
    report = check_partition(late, iter(()), 20_000, kept_from=5_000)
    assert report.findings[0].message().startswith("gap: offsets 5000 to 6999 (2000)")
