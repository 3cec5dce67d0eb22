"""Continuous verification: its share of the CPU, its metrics, the table of its verdicts."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from app.compare.compare import Comparison, Difference
from app.errors import HeadwaterError
from app.verify import verify_command
from app.verify.verdict import Verdict
from app.verify.verification_table import PATH, VerificationTable
from app.verify.verify_command import Asked
from app.verify.verify_continuous import EVERY_S, Pace, Throttle, VerifyMetrics
from spark_streaming.contract.lsn import Lsn
from tests.support.disk_lake import DiskLake

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
WRONG = Verdict(
    "films",
    lsn=Lsn(0x1_0000_0010),
    version=7,
    comparison=Comparison(
        rows=9,
        differing=1,
        differences=(Difference("differs", "id=1", (("title", "secret", "other"),)),),
    ),
)


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1), st.sampled_from([1, 5, 50])
)
def test_cpu_is_at_most_its_share_of_the_time(work: list[tuple[float, float]], share: int) -> None:
    clock, cpu = [0.0], [0.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds

    throttle = Throttle(share, pause, lambda: clock[0], lambda: cpu[0])
    for used, waited in work:
        cpu[0] += used
        clock[0] += used + waited
        throttle.rest()
        assert cpu[0] <= clock[0] * share / 100 + 1e-6


def test_a_part_that_used_less_than_its_share_is_not_followed_by_a_rest() -> None:
    rests: list[float] = []
    clock, cpu = [0.0], [0.0]
    throttle = Throttle(10, rests.append, lambda: clock[0], lambda: cpu[0])
    clock[0], cpu[0] = 20.0, 1.0
    throttle.rest()
    assert rests == []


def test_a_pace_takes_defaults_for_what_was_left_out() -> None:
    assert Pace.of(None, None, 2) == Pace(rounds=2)
    assert Pace.of(0.0, 50.0, None).every_s == 0.0
    assert Pace.of(None, None, None).every_s == EVERY_S


def test_metrics_tell_each_tables_last_verdict() -> None:
    metrics = VerifyMetrics()
    metrics.record(WRONG, NOW, 0.5)
    metrics.record(Verdict("genres", comparison=Comparison(rows=3)), NOW, 0.5)
    metrics.round_ended("differs")

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"headwater_verify_{name}", labels)

    assert value("equal", table="films") == 0 and value("equal", table="genres") == 1
    assert value("wrong_rows", table="films") == 1 and value("rows", table="genres") == 3
    assert value("last_timestamp_seconds", table="films") == NOW.timestamp()
    assert value("rounds_total", end="differs") == 1
    assert value("cpu_seconds_total") == 1.0


def test_verdicts_are_kept_by_round_without_the_rows_values(tmp_path: Path) -> None:
    results = VerificationTable(DiskLake(tmp_path))
    assert results.last_round() == 0
    results.append(1, [(WRONG, NOW, 0.25)])
    results.append(2, [(Verdict("films", refused="no key"), NOW, 0.1)])
    assert results.last_round() == 2
    first, second = DeltaTable(tmp_path / PATH).to_pyarrow_table().sort_by("round").to_pylist()
    assert (first["verdict"], first["differing"], first["source_pg_lsn"]) == ("differs", 1, "1/10")
    assert first["differences"] == "differs: id=1: title"
    assert (second["verdict"], second["differences"]) == ("refused", "no key")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(sample="5%", resume=True), "cannot be resumed"),
        (Asked(bronze=True, sample="5%"), "--bronze"),
        (Asked(bronze=True, continuous=True), "--bronze"),
        (Asked(rounds=2), "--continuous"),
        (Asked(sample="all"), "no sample"),
    ],
)
def test_options_that_do_not_go_together_are_refused_with_a_hint(asked: Asked, said: str) -> None:
    with pytest.raises(HeadwaterError, match=said) as refused:
        verify_command.run(asked)
    assert refused.value.hint
