"""A hanging transaction gets the end that its coordinator had recorded."""

from __future__ import annotations

import pytest
from kafka import TopicPartition

from app.connectors.hanging_transactions import Open, State, is_committed

ONGOING, COMMIT, ABORT, COMMITTED, ABORTED, FENCING = 1, 2, 3, 4, 5, 7
PRODUCER = 7
HANGS = Open(TopicPartition("hw.public.t", 0), PRODUCER, 3, 0, 100)


def states(*found: tuple[int, int]) -> list[State]:
    """(epoch, status) of the producer's transactions, among those of another producer."""
    own = [State(PRODUCER, epoch, status) for epoch, status in found]
    other = [State(8, 3, ONGOING), State(8, 3, COMMIT), State(8, 3, COMMITTED)]
    return [*other, *(one for state in own for one in (state, *other))]


@pytest.mark.parametrize(
    ("found", "committed"),
    [
        # Since Kafka 4.0 each end raises the epoch.
        ([(3, ONGOING), (3, ONGOING), (4, COMMIT), (4, COMMITTED)], True),
        ([(3, ONGOING), (4, ABORT), (4, ABORTED)], False),
        ([(3, ONGOING), (4, FENCING), (5, ABORT), (5, ABORTED)], False),
        ([(3, ONGOING), (4, COMMIT), (4, COMMITTED), (4, ONGOING), (5, ABORT)], True),
        ([(2, ONGOING), (3, COMMIT), (3, ONGOING), (4, ABORT), (4, ONGOING), (5, COMMIT)], False),
        # Before 4.0 all of a producer's transactions have the same epoch, and the last of them hangs.
        ([(3, ONGOING), (3, COMMIT), (3, COMMITTED), (3, ONGOING), (3, ABORT)], False),
        ([(3, ONGOING), (3, ABORT), (3, ABORTED), (3, ONGOING), (3, COMMIT)], True),
        # Not recorded, or no longer in the log.
        ([(3, ONGOING)], False),
        ([(3, COMMITTED), (3, ONGOING)], False),
        ([(4, COMMIT), (4, COMMITTED)], False),
        ([], False),
    ],
)
def test_a_transaction_is_committed_where_its_commit_was_noted_behind_its_records(
    found: list[tuple[int, int]], committed: bool
) -> None:
    assert is_committed(HANGS, states(*found)) == committed
