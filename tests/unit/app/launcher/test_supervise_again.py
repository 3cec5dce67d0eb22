"""Failed services are retried without end; running services that do not answer are found and restarted."""

from __future__ import annotations

import random

import pytest

from app.errors import HeadwaterError
from app.launcher.supervision.attempt import UNRESPONSIVE_S
from app.launcher.supervision.restart_policy import FAILED_RETRY_MAX_S, FAILED_RETRY_S
from tests.unit.supervised import World, service

STRICT = {"max_restarts": 0, "backoff_s": 1}
NOTICED_S = 10.0


def until_state(world: World, name: str, state: str, *, step_s: float = 0.25) -> float:
    """The seconds until the service is in this state."""
    began = world.now
    while world.state(name) != state:
        world.after(step_s)
        assert world.now < began + 10 * FAILED_RETRY_MAX_S, f"{name} stays {world.state(name)}"
    return world.now - began


def test_what_has_failed_is_tried_again_with_growing_pauses_and_comes_back() -> None:
    world = World.running(service("capture", restart=STRICT))
    world.host.ready.clear()
    pauses = []
    for _ in range(7):
        world.ends("capture", 1)
        assert world.state("capture") == "failed"
        pauses.append(until_state(world, "capture", "starting"))
    assert [round(pause) for pause in pauses] == [30, 60, 120, 240, 300, 300, 300]
    world.ready("capture")
    world.ends("capture", 1)
    assert world.state("capture") == "failed"
    assert round(until_state(world, "capture", "ready")) == FAILED_RETRY_S


def test_a_start_that_could_not_even_begin_is_tried_again() -> None:
    world = World(service("capture"))
    world.host.refused["capture"] = HeadwaterError("No space left on device")
    world.want("capture")
    assert world.state("capture") == "failed"
    world.host.refused.clear()
    world.host.ready.add("capture")
    assert until_state(world, "capture", "ready") < FAILED_RETRY_S + 1


def test_a_oneshot_that_has_failed_is_tried_again() -> None:
    world = World(
        service("store", kind="oneshot", restart={"max_restarts": 0}),
        service("silver", depends_on={"store": "completed"}),
    )
    world.want("store", "silver")
    world.ends("store", 1)
    assert world.state("store") == "failed"
    until_state(world, "store", "starting")
    world.ends("store", 0)
    assert (world.state("store"), world.state("silver")) == ("completed", "starting")


def test_who_is_never_to_be_restarted_stays_down() -> None:
    world = World.running(service("kafka", restart={"policy": "never"}))
    world.ends("kafka", 1)
    world.after(100_000)
    assert (world.state("kafka"), world.started) == ("failed", ["kafka"])


def test_a_start_that_fails_while_what_it_needs_is_down_is_not_counted_against_it() -> None:
    world = World(service("kafka"), service("connect", depends_on={"kafka": "healthy"}))
    world.want("kafka", "connect")
    for _ in range(5):
        world.ready("kafka")
        world.after(0.3)
        assert world.state("connect") == "starting"
        world.host.ready.clear()
        world.ends("kafka", -9)
        world.ends("connect", 1)
        assert world.state("connect") == "backoff"
        until_state(world, "kafka", "starting")
        world.after(2)
        assert world.state("connect") == "waiting"
    world.ready("kafka", "connect")
    world.after(0.3)
    assert world.state("connect") == "ready"


def test_whatever_fails_in_whatever_order_all_is_ready_once_nothing_fails_any_more(
    seed: int,
) -> None:
    draw = random.Random(seed)
    for _ in range(60):
        world = World(
            service("kafka", restart=STRICT),
            service("connect", depends_on={"kafka": "healthy"}, restart=STRICT),
            service("connectors", kind="oneshot", depends_on={"connect": "healthy"}),
            service("capture", depends_on={"connectors": "completed"}, restart=STRICT),
            service("page", awaited=False, depends_on={"kafka": "healthy"}),
        )
        names = list(world.supervisor.services)
        world.want(*names)
        for _ in range(draw.randrange(5, 80)):
            name = draw.choice(names)
            unit = world.supervisor.units[name]
            fate = draw.randrange(4)
            if fate == 0 and unit.process is not None and unit.state != "stopping":
                world.host.processes[name].code = draw.choice((0, 1, -9))
            elif fate == 1:
                world.host.ready.symmetric_difference_update({name})
            elif fate == 2:
                world.host.silent.symmetric_difference_update({name})
            world.after(draw.choice((0.1, 1, 10, 100)))
        world.host.ready, world.host.silent = {*names}, set()
        for _ in range(int(4 * FAILED_RETRY_MAX_S)):
            unit = world.supervisor.units["connectors"]
            if unit.state == "starting":
                world.host.processes["connectors"].code = 0
            world.after(1)
        states = {name: world.state(name) for name in names}
        assert {*states.values()} == {"ready", "completed"}, states


@pytest.mark.parametrize("probe_s", [0.0, 3.0])
def test_a_service_that_does_not_answer_is_noticed_within_ten_seconds_and_said(
    probe_s: float,
) -> None:
    world = World(service("trino"))
    world.host.probe_s = probe_s
    world.want("trino")
    world.ready("trino")
    world.after(1.0)
    world.host.silent.add("trino")
    assert until_state(world, "trino", "unresponsive", step_s=0.1) < NOTICED_S
    error = world.error("trino")
    assert error.message == "service `trino` runs and does not answer"
    assert error.detail == "asked trino again"
    assert "started again after 60 s" in error.hint
    world.host.silent.clear()
    until_state(world, "trino", "ready")
    assert world.started == ["trino"]


def test_one_missed_answer_is_no_trouble() -> None:
    world = World.running(service("trino"))
    for _ in range(50):
        world.host.silent.add("trino")
        world.after(2.0)
        assert world.state("trino") == "ready"
        world.host.silent.clear()
        world.after(1.0)
        world.after(2.0)
    assert world.state("trino") == "ready"


def test_a_service_that_answers_nothing_for_long_is_killed_and_started_again() -> None:
    world = World.running(service("trino"))
    world.host.silent.add("trino")
    until_state(world, "trino", "unresponsive")
    hanging = world.host.processes["trino"]
    took_s = until_state(world, "trino", "backoff")
    assert hanging.killed and took_s == pytest.approx(UNRESPONSIVE_S, abs=1)
    assert world.error("trino").message == "service `trino` answered nothing for 60 s"
    world.host.silent.clear()
    until_state(world, "trino", "ready")
    assert world.host.ends == [("trino", None, False, True)]


def test_an_overloaded_machine_gets_more_time_before_a_silent_service_is_killed() -> None:
    world = World.running(service("trino"))
    world.host.busy = True
    world.host.silent.add("trino")
    until_state(world, "trino", "unresponsive")
    assert until_state(world, "trino", "backoff") == pytest.approx(3 * UNRESPONSIVE_S, abs=1)


def test_who_starts_waits_for_a_service_that_does_not_answer() -> None:
    world = World.running(service("kafka"), service("connect", depends_on={"kafka": "healthy"}))
    world.host.silent.add("kafka")
    until_state(world, "kafka", "unresponsive")
    world.ends("connect", -9)
    world.after(5)
    assert world.state("connect") == "waiting"
    assert world.supervisor.units["connect"].waits_for == "kafka (unresponsive)"
    world.host.silent.clear()
    until_state(world, "connect", "ready")


def test_a_silent_service_stops_when_it_is_not_wanted() -> None:
    world = World.running(service("trino"))
    world.host.silent.add("trino")
    until_state(world, "trino", "unresponsive")
    world.want()
    assert (world.state("trino"), world.host.processes["trino"].signals) == ("stopping", [15])


def test_a_service_that_ran_before_starts_again_while_one_instance_of_what_it_needs_is_away() -> (
    None
):
    needs = {"kafka": "healthy", "kafka-2": "healthy"}
    kafka_2 = service("kafka-2", instance=2)
    world = World(service("kafka"), kafka_2, service("connect", depends_on=needs))
    world.want("kafka", "kafka-2", "connect")
    world.ready("kafka")
    assert world.started == ["kafka", "kafka-2"]
    world.ready("kafka-2")
    world.ready("connect")
    world.ends("kafka-2", 1)
    world.ends("connect", 1)
    world.after(2)
    assert world.started.count("connect") == 2
