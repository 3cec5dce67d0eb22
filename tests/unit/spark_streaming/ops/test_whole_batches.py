"""The LSN up to which silver is complete, from the rows of all its jobs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from spark_streaming.ops.whole_batches import WholeBatches

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
TWO = "2-aaaaaaaa"


def row(
    second: int, lsn: int | None, job: int | None = None, share: str | None = None
) -> dict[str, Any]:
    at = START + timedelta(seconds=second)
    return {
        "merged_at": at, "complete_lsn": lsn, "source_time": None if lsn is None else at,
        "offsets": f'{{"t": {{"0": {second}}}}}', "job": job, "share": share,
    }  # fmt: skip


def test_rows_of_a_release_with_one_job_tell_as_before() -> None:
    whole = WholeBatches([row(1, 10), row(2, 20), row(3, None)])
    assert whole.complete_lsn == 20
    assert whole.time == START + timedelta(seconds=2)
    assert [one.offsets for one in whole.jobs()] == ['{"t": {"0": 3}}']


def test_the_job_that_is_behind_tells_for_all() -> None:
    whole = WholeBatches([row(1, 10, 1, TWO), row(2, 7, 2, TWO), row(3, 30, 1, TWO)])
    assert whole.complete_lsn == 7
    assert whole.time == START + timedelta(seconds=2)
    assert len(whole.jobs()) == 2


def test_nothing_is_known_while_a_job_has_said_nothing() -> None:
    assert WholeBatches().complete_lsn is None
    assert WholeBatches([row(1, 10), row(2, 20, 1, TWO)]).complete_lsn is None
    assert WholeBatches([row(1, 10, 1, TWO), row(2, None, 2, TWO)]).complete_lsn is None


def test_rows_of_another_split_do_not_count_once_a_job_works_under_a_new_one() -> None:
    old = [row(1, 50, 1, TWO), row(2, 40, 2, TWO)]
    assert WholeBatches([*old, row(3, 45, 1, "1")]).complete_lsn == 45
    assert WholeBatches([*old, row(3, 45, 1, "2-bbbbbbbb")]).complete_lsn is None


@pytest.mark.parametrize("job", [1, 2])
def test_a_job_that_starts_under_a_new_split_begins_with_what_all_had_reached(job: int) -> None:
    whole = WholeBatches([row(1, 50, 1, TWO), row(2, 40, 2, TWO)])
    assert whole.of(job, "2-bbbbbbbb").complete_lsn == 40
    assert whole.of(job, TWO).complete_lsn == (50 if job == 1 else 40)


def test_a_job_that_starts_after_another_has_begun_under_the_new_split_claims_nothing_at_first() -> (
    None
):
    rows = [row(1, 50, 1, TWO), row(2, 40, 2, TWO), row(3, 45, 1, "3-cccccccc")]
    assert WholeBatches(rows).of(2, "3-cccccccc").complete_lsn is None
