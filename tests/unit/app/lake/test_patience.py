"""`verify` waits for silver: what it reports meanwhile, and why it gives up."""

from __future__ import annotations

import pytest

from app.errors import HeadwaterError
from app.lake.patience import Patience, SilverState, Waits, behind_text


class World:
    """A clock that sleeping advances, and the reported lines."""

    def __init__(self, state: str = "ready", cause: str = "") -> None:
        self.now = 0.0
        self.state = SilverState(state, cause)
        self.notes: list[str] = []
        self.shown: list[str] = []
        self.waits = Waits(self.notes.append, self.shown.append, lambda: self.state, 60.0)
        self.patience = Patience(self.waits, clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait_for_ever(self, behind: int = 7) -> HeadwaterError:
        with pytest.raises(HeadwaterError) as caught:
            while self.now < 1_000:
                self.patience.wait(behind, behind_text({"orders": behind, "films": 0}))
        return caught.value


def test_what_is_waited_for_names_the_table_and_since_when() -> None:
    world = World()
    error = world.wait_for_ever()
    assert 60 < world.now < 63
    assert world.notes == ["verify waits for silver to apply orders (7 offsets)"]
    assert "orders (7 offsets); no step nearer for 58 s" in world.shown[-3]
    assert error.message.startswith("silver has not come nearer for 6")
    assert "orders (7 offsets)" in error.detail and "merges nothing of it" in error.detail
    assert "logs silver" in error.hint


def test_a_service_that_hangs_is_named_and_waited_for_as_it_is_started_again() -> None:
    world = World("unresponsive", "it runs and does not answer")
    error = world.wait_for_ever()
    assert world.now > 60
    assert "silver is unresponsive: it runs and does not answer" in world.shown[-1]
    assert "unresponsive" in error.detail


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_a_service_that_is_down_ends_the_wait_soon_with_its_cause(state: str) -> None:
    world = World(state, "exit code 1")
    error = world.wait_for_ever()
    assert 10 < world.now < 13
    assert f"silver is {state}: exit code 1" in error.detail
    assert "./headwater up" in error.hint


def test_silver_that_comes_nearer_is_waited_for_without_a_limit() -> None:
    world = World()
    for behind in range(500, 0, -1):
        world.patience.wait(behind, "orders")
    assert world.now > 400


def test_the_tables_that_are_behind_most_come_first_and_the_others_are_counted() -> None:
    behind = {f"t{n}": n for n in range(9)}
    assert behind_text(behind) == (
        "t8 (8 offsets), t7 (7 offsets), t6 (6 offsets), t5 (5 offsets), t4 (4 offsets), 3 tables more"
    )
    assert behind_text({"t": 0}) == ""
