"""An object's proof about its missing offsets, and its use by readers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pa_fs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verify.bronze_check import check_partition
from app.verify.bronze_records import Bronze, Line
from spark_streaming.reading.bronze_proof import Proof, proof_of, unproven
from spark_streaming.reading.expired_events import Archive, NotArchivedError

NO_KAFKA = 1 << 40


def packed(offsets: Iterable[int], comment: str | None) -> bytes:
    """An object in the sink's form: the comment follows the ten bytes of the header."""
    lines = b"".join(
        json.dumps(
            {
                "topic": "t",
                "partition": 0,
                "offset": offset,
                "timestamp": 1,
                "headers": [],
                "key": None,
                "value": "x",
            }
        ).encode()
        + b"\n"
        for offset in offsets
    )
    plain = gzip.compress(lines)
    if comment is None:
        return plain
    return plain[:3] + bytes([plain[3] | 16]) + plain[4:10] + comment.encode() + b"\0" + plain[10:]


def bucket(folder: Path, *objects: tuple[list[int], str | None]) -> Bronze:
    block = folder / "t" / "partition=0" / f"block={0:016}"
    block.mkdir(parents=True)
    for offsets, comment in objects:
        (block / f"{offsets[0]:020}.jsonl.gz").write_bytes(packed(offsets, comment))
    return Bronze(pa_fs.SubTreeFileSystem(str(folder), pa_fs.LocalFileSystem()))


def test_every_reader_of_gzip_passes_over_a_proof() -> None:
    body = packed([1, 2], "headwater read-from=0 lost=5-9")
    assert proof_of(body) == Proof(0, (5, 9))
    assert gzip.decompress(body) == gzip.decompress(packed([1, 2], None))
    stream = pa.CompressedInputStream(pa.BufferReader(body), "gzip")
    assert stream.read() == gzip.decompress(body)


def test_an_object_of_an_older_version_or_of_another_tool_proves_nothing() -> None:
    cut = packed([1], "headwater read-from=1")[:12]
    others = [packed([1], None), packed([1], "by somebody"), packed([1], "headwater read-from=x")]
    for body in (b"", b"\x1f\x8b", b"no gzip at all", cut, *others):
        assert proof_of(body) is None, body


def test_a_proof_stands_behind_other_fields_of_the_header() -> None:
    body = packed([1], "headwater read-from=7")
    named = body[:3] + bytes([body[3] | 4 | 8]) + body[4:10] + b"\x03\x00abcname\0" + body[10:]
    assert proof_of(named) == Proof(7, None)


@given(
    st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.booleans()
)
def test_exactly_the_offsets_before_the_reading_and_the_lost_ones_are_unproven(
    first: int, length: int, read_from: int, lost_from: int, lost: bool
) -> None:
    last = first + length
    proof = Proof(read_from, (lost_from, lost_from + 3) if lost else None)
    wanted = [
        offset
        for offset in range(first, last + 1)
        if offset < read_from or (lost and lost_from <= offset <= lost_from + 3)
    ]
    found = unproven(proof, first, last)
    assert found == ((wanted[0], wanted[-1]) if wanted else None)


def read(bronze: Bronze, start: int, end: int) -> list[int]:
    return [event.offset for event in Archive(bronze).read("t", 0, start, end)]


def test_silver_reads_over_gaps_that_the_objects_prove_and_over_no_other(tmp_path: Path) -> None:
    proved = bucket(
        tmp_path / "proved",
        ([6, 16, 17], "headwater read-from=0"),
        ([30], "headwater read-from=18"),
    )
    assert read(proved, 0, 31) == [6, 16, 17, 30]
    assert read(proved, 7, 25) == [16, 17]
    lost = bucket(
        tmp_path / "lost", ([0], "headwater read-from=0"), ([3], "headwater read-from=1 lost=1-1")
    )
    with pytest.raises(NotArchivedError, match="the offsets 1 to 1"):
        read(lost, 0, 4)
    assert read(lost, 2, 4) == [3]


def test_a_lost_object_leaves_a_gap_that_its_neighbours_do_not_prove(tmp_path: Path) -> None:
    bronze = bucket(tmp_path, ([0, 1], "headwater read-from=0"), ([3, 9], "headwater read-from=3"))
    with pytest.raises(NotArchivedError, match="the offsets 2 to 2"):
        read(bronze, 0, 10)
    assert read(bronze, 0, 2) == [0, 1]


def test_objects_without_a_proof_keep_the_rule_of_one_marker(tmp_path: Path) -> None:
    bronze = bucket(tmp_path, ([0, 2], None), ([4], "headwater read-from=3"), ([9], None))
    assert read(bronze, 0, 5) == [0, 2, 4]
    with pytest.raises(NotArchivedError, match="the offsets 5 to 8"):
        read(bronze, 0, 10)


def test_verify_accepts_what_is_proved_without_remembering_it_and_names_the_rest() -> None:
    def lines(*objects: tuple[list[int], Proof | None]) -> list[Line]:
        return [
            Line(f"t/{offsets[0]:020}.jsonl.gz", offset, b"", proof)
            for offsets, proof in objects
            for offset in offsets
        ]

    whole = lines(([6, 16], Proof(0, None)), ([30], Proof(17, None)))
    report = check_partition(whole, [], NO_KAFKA)
    assert report.complete and report.explained == []
    [found] = check_partition(whole[2:], [], NO_KAFKA).findings
    assert (found.kind, found.span) == ("gap", "0 to 16")
    lost = lines(([0], Proof(0, None)), ([2], Proof(1, (1, 1))))
    assert [one.span for one in check_partition(lost, [], NO_KAFKA).findings] == ["1 to 1"]
