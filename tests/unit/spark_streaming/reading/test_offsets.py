"""The checkpoint's offset log, as Spark writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spark_streaming.reading.offsets import OffsetLog, parse_offset_log

META = '{"batchWatermarkMs":0,"batchTimestampMs":1,"conf":{}}'


def _checkpoint(folder: Path) -> OffsetLog:
    (folder / "offsets").mkdir()
    (folder / "sources" / "0").mkdir(parents=True)
    (folder / "metadata").write_text('{"id":"q-1"}')
    (folder / "sources" / "0" / "0").write_text('\0v1\n{"hw.public.a":{"0":5,"1":7}}')
    (folder / "offsets" / "0").write_text(f'v1\n{META}\n{{"hw.public.a":{{"0":9,"1":7}}}}')
    (folder / "offsets" / "1").write_text(
        f'v1\n{META}\n{{"hw.public.a":{{"0":9,"1":8}},"hw.public.b":{{"0":3}}}}'
    )
    return OffsetLog(folder.as_uri(), None)


def test_first_batch_spans_from_where_the_query_began(tmp_path: Path) -> None:
    span = _checkpoint(tmp_path).span(0)
    assert span.start == {"hw.public.a": {0: 5, 1: 7}}
    assert (span.sizes(), span.size) == ({"hw.public.a": 4}, 4)


def test_later_batch_spans_from_the_one_before_and_holds_new_topics(tmp_path: Path) -> None:
    log = _checkpoint(tmp_path)
    assert log.span(1).sizes() == {"hw.public.a": 1, "hw.public.b": 3}
    assert log.query_id() == "q-1"


def test_query_without_a_checkpoint_is_told_apart(tmp_path: Path) -> None:
    assert not OffsetLog(tmp_path.as_uri(), None).exists()
    assert _checkpoint(tmp_path).exists()


def test_log_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="not an offset log"):
        parse_offset_log(f'v1\n{META}\n{{"a":{{"0":1}}}}\n{{"b":{{"0":1}}}}')


def test_files_that_a_power_cut_emptied_are_removed_and_the_others_stay(tmp_path: Path) -> None:
    log = _checkpoint(tmp_path)
    (tmp_path / "commits").mkdir()
    for name in ("offsets/2", "offsets/.1.crc", "commits/1"):
        (tmp_path / name).touch()
    (tmp_path / "commits" / "0").write_text("v1\n{}")
    assert log.drop_unwritten() == ["offsets/.1.crc", "offsets/2", "commits/1"]
    assert log.drop_unwritten() == []
    assert log.span(1).sizes() == {"hw.public.a": 1, "hw.public.b": 3}
    assert (tmp_path / "commits" / "0").exists()


@pytest.mark.parametrize(
    ("batch_id", "flushed"),
    [
        (0, ["", "commits", "metadata", "offsets", "offsets/0", "sources/0", "sources/0/0"]),
        (1, ["commits", "commits/0", "offsets", "offsets/1"]),
    ],
)
def test_a_batchs_plan_is_on_the_disk_before_it_is_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_id: int, flushed: list[str]
) -> None:
    log, seen = _checkpoint(tmp_path), list[str]()
    (tmp_path / "commits").mkdir()
    (tmp_path / "commits" / "0").write_text("v1\n{}")
    monkeypatch.setattr(
        os, "fsync", lambda handle: seen.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
    )
    log.flush(batch_id)
    root = str(tmp_path)
    assert sorted(path.removeprefix(root).lstrip("/") for path in seen) == flushed
