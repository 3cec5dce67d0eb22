"""What the freshness probe reads on the store's disk, and which cases its benchmark has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tests.bench.hop_probe import PROBE_ID, SilverLog
from tests.bench.test_freshness import ALL, between, chosen


def rows(*values: tuple[int, int]) -> pa.Table:
    """Rows of (id, v)."""
    return pa.table({"id": [key for key, _ in values], "v": [v for _, v in values]})


def test_each_entry_of_the_log_shows_the_probes_value_and_its_time(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows((PROBE_ID, 7), (1, 0)))
    log = SilverLog(tmp_path)
    assert log.next() is None
    write_deltalake(tmp_path, rows((2, 0)), mode="append")
    write_deltalake(tmp_path, rows((PROBE_ID, 8)), mode="overwrite")
    first, second = log.next(), log.next()
    assert first is not None
    assert second is not None
    assert (first[0], second[0]) == (None, 8)
    assert second[1] >= first[1]
    assert log.next() is None


def test_entries_before_an_edit_are_left_out(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows((PROBE_ID, 7)))
    log = SilverLog(tmp_path)
    write_deltalake(tmp_path, rows((PROBE_ID, 8)), mode="overwrite")
    log.skip()
    assert log.next() is None


def test_an_edit_that_a_hop_has_not_shown_has_no_time_there() -> None:
    edits: list[dict[str, Any]] = [
        {"kafka_at": 10.0, "silver_at": 10.5},
        {"kafka_at": 11.0, "silver_at": None},
    ]
    assert between(edits, "kafka", "silver") == [0.5]


def test_cases_are_chosen_by_name_and_a_wrong_name_is_an_error() -> None:
    assert chosen("50x8,young") == ["50x8", "young"]
    assert chosen("all") == list(ALL)
    assert len(ALL) == 17
    with pytest.raises(AssertionError, match="no case 3x3"):
        chosen("3x3")
