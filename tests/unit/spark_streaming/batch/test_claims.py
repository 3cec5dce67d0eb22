"""Silver never claims to be complete beyond its rows, wherever its process is killed."""

from __future__ import annotations

from random import Random

from spark_streaming.batch.completeness import SEEN_MAX, Claims
from spark_streaming.contract.lsn import Lsn
from tests.support.examples import examples
from tests.unit.claims_world import World

HISTORIES = 4_000
BATCHES = 14


def test_no_claim_is_ahead_of_silver_in_any_history_of_kills_limits_and_late_markers(
    seed: int,
) -> None:
    claimed = 0
    for number in range(examples(HISTORIES)):
        world = World(Random(f"{seed}/{number}"))
        try:
            world.run(BATCHES)
        except AssertionError as error:
            raise AssertionError(f"history {number}: {error}") from error
        claimed += sum(row.claims is not None for row in world.ledger)
    assert claimed > number, "histories in which nothing is claimed prove nothing"


def test_a_source_at_rest_is_claimed_whole_but_for_its_newest_heartbeats(seed: int) -> None:
    for number in range(examples(300)):
        world = World(Random(f"{seed}/{number}"))
        world.run(BATCHES)
        written = world.last_commit
        world.rest()
        assert (world.ledger[-1].claims or 0) >= written, f"history {number}"


def test_the_histories_find_what_is_claimed_without_asking_what_kafka_has_written(
    seed: int,
) -> None:
    found = 0
    for number in range(300):
        try:
            World(Random(f"{seed}/{number}"), asks=False).run(BATCHES)
        except AssertionError:
            found += 1
    assert found


def test_positions_wait_for_the_partition_that_is_behind() -> None:
    ends = {"a": {0: 5}, "b": {0: 9}}
    claims = Claims(None, None, None, lambda: ends)
    claims.begin()
    claims.merged(Lsn(70), None)
    claims.prove({"a": {0: 5}, "b": {0: 8}})
    assert claims.complete_lsn is None
    claims.prove({"a": {0: 6}})
    assert claims.complete_lsn is None, "a topic that the batch does not know"
    claims.prove({"a": {0: 5}, "b": {0: 9}})
    assert claims.complete_lsn == 70


def test_nothing_is_claimed_for_a_batch_whose_ends_kafka_did_not_say() -> None:
    claims = Claims(Lsn(50), None, None, lambda: None)
    claims.begin()
    claims.merged(Lsn(70), None)
    claims.prove({"a": {0: 100}})
    assert claims.complete_lsn == 50


def test_the_oldest_position_is_kept_while_a_marker_is_late() -> None:
    ends = {"a": {0: 1}}
    claims = Claims(None, None, None, lambda: ends)
    for number in range(3 * SEEN_MAX):
        claims.begin()
        claims.merged(Lsn(number + 1), None)
        ends = {"a": {0: number + 2}}
    claims.prove({"a": {0: 1}})
    assert claims.complete_lsn == 1
    claims.prove({"a": {0: 3 * SEEN_MAX}})
    assert claims.complete_lsn == 3 * SEEN_MAX
