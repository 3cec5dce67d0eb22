"""Supervision with a test clock and test processes, and the real rules."""

from __future__ import annotations

import pytest

from app.errors import HeadwaterError
from app.launcher.supervision.restart_policy import FIRST_START_ATTEMPTS, STEADY_S
from tests.unit.supervised import World, service


def test_a_service_starts_only_when_what_it_needs_is_ready() -> None:
    world = World(service("kafka"), service("connect", depends_on={"kafka": "healthy"}))
    world.want("kafka", "connect")
    assert world.started == ["kafka"]
    assert world.supervisor.units["connect"].waits_for == "kafka (starting)"
    world.ready("kafka")
    assert world.started == ["kafka", "connect"]


def test_independent_services_start_at_once() -> None:
    world = World(service("kafka"), service("s3"), service("trino"))
    world.want("kafka", "s3", "trino")
    assert world.started == ["kafka", "s3", "trino"]


def test_started_is_enough_where_only_that_is_asked() -> None:
    world = World(service("a"), service("b", depends_on={"a": "started"}))
    world.want("a", "b")
    assert world.started == ["a", "b"]


def test_a_dependency_that_settings_leave_out_is_passed_over() -> None:
    world = World(service("s3"), service("trino", depends_on={"s3": "healthy"}))
    world.want("trino")
    assert world.started == ["trino"]


def test_a_completed_oneshot_lets_its_dependents_start_and_is_not_run_again() -> None:
    world = World(
        service("store", kind="oneshot"), service("app", depends_on={"store": "completed"})
    )
    world.want("store", "app")
    assert world.started == ["store"]
    world.ends("store", 0)
    assert (world.state("store"), world.started) == ("completed", ["store", "app"])
    world.after(1_000)
    assert world.started == ["store", "app"]


def test_prepare_commands_run_in_order_before_the_service() -> None:
    world = World(service("pg", prepare=[{"command": ["a"]}, {"command": ["b"]}]))
    world.want("pg")
    assert world.host.starts == [("pg", 0)]
    world.ends("pg", 0)
    world.ends("pg", 0)
    assert world.host.starts == [("pg", 0), ("pg", 1), ("pg", None)]


def test_a_prepare_command_with_nothing_to_do_is_passed_over() -> None:
    world = World(service("pg", prepare=[{"command": ["a"]}, {"command": ["b"]}]))
    world.host.skipped = {("pg", 0), ("pg", 1)}
    world.want("pg")
    assert world.host.starts == [("pg", None)]


def test_a_prepare_command_that_takes_too_long_is_killed_and_told() -> None:
    world = World(service("pg", prepare=[{"command": ["a"], "timeout_s": 5}]))
    world.want("pg")
    world.after(5)
    assert world.host.processes["pg"].killed
    assert world.error("pg").message == "preparing service `pg` took more than 5 s"


def test_a_crashed_service_starts_again_with_growing_pauses() -> None:
    restart = {"backoff_s": 1.0, "backoff_max_s": 4.0}
    world = World.running(service("kafka", restart=restart))
    pauses = []
    for _ in range(4):
        world.ends("kafka", 137)
        waited = 0.0
        while world.state("kafka") == "backoff":
            world.after(0.5)
            waited += 0.5
        pauses.append(waited)
        world.after(0.3)
        assert world.state("kafka") == "ready"
    assert pauses == [1.0, 2.0, 4.0, 4.0]
    assert world.supervisor.units["kafka"].restarts == 4


def test_after_a_steady_run_the_pauses_begin_again() -> None:
    restart = {"backoff_s": 1.0, "backoff_max_s": 8.0}
    world = World.running(service("kafka", restart=restart))
    waits = []
    for ready_s in (0, 0, STEADY_S + 1, 0):
        world.after(ready_s)
        world.ends("kafka", 137)
        waits.append(world.supervisor.units["kafka"].retry_at - world.now)
        world.after(waits[-1])
        world.after(0.3)
        assert world.state("kafka") == "ready"
    assert waits == pytest.approx([1, 2, 1, 2])


def test_a_service_that_crashes_too_often_has_failed() -> None:
    restart = {"max_restarts": 2, "window_s": 100, "backoff_s": 1, "backoff_max_s": 1}
    world = World.running(service("kafka", restart=restart))
    for _ in range(2):
        world.ends("kafka", 1)
        world.after(1)
        world.after(0.3)
    world.ends("kafka", 1)
    assert world.state("kafka") == "failed"
    world.after(29)
    assert world.started == ["kafka"] * 3


def test_crashes_far_apart_are_not_counted_together() -> None:
    restart = {"max_restarts": 1, "window_s": 100, "backoff_s": 1, "backoff_max_s": 1}
    world = World.running(service("kafka", restart=restart))
    for _ in range(5):
        world.after(101)
        world.ends("kafka", 1)
        world.after(1)
        world.after(0.3)
    assert world.state("kafka") == "ready"


def test_a_service_that_was_never_ready_has_failed_soon() -> None:
    world = World(service("kafka"))
    world.want("kafka")
    for _ in range(FIRST_START_ATTEMPTS):
        world.ends("kafka", 127)
        world.after(2)
    assert world.state("kafka") == "failed"
    assert world.started == ["kafka"] * FIRST_START_ATTEMPTS
    error = world.supervisor.units["kafka"].error
    assert str(error) == (
        "service `kafka` ended before it was ready\n"
        "  detail: exit code 127\n"
        "    last words of kafka\n"
        "  log: run/kafka/stderr.log\n"
        "  hint: look there"
    )


def test_a_service_that_is_not_ready_in_time_is_killed_and_told() -> None:
    world = World(service("connect"))
    world.want("connect")
    for _ in range(600):
        world.after(0.1)
    assert world.host.processes["connect"].killed
    error = world.error("connect")
    assert error.message == "service `connect` was not ready within 60 s"
    assert error.detail.startswith("asked connect, ")
    assert "process is running" in error.detail


def test_an_overloaded_machine_gets_more_time_but_not_without_end() -> None:
    world = World(service("connect"))
    world.host.busy = True
    world.want("connect")
    for _ in range(179):
        world.after(1)
    assert world.started == ["connect"]
    assert not world.host.processes["connect"].killed
    world.after(1)
    assert world.host.processes["connect"].killed
    assert world.error("connect").message == "service `connect` was not ready within 180 s"


def test_a_wrong_template_is_a_failure_at_once() -> None:
    world = World(service("kafka"))
    world.host.refused["kafka"] = HeadwaterError("unknown variable")
    world.want("kafka")
    assert world.state("kafka") == "failed"


def test_a_oneshot_that_keeps_failing_has_failed_after_its_limit() -> None:
    world = World(service("store", kind="oneshot", restart={"max_restarts": 2, "backoff_s": 1}))
    world.want("store")
    for _ in range(3):
        world.ends("store", 3)
        world.after(5)
    assert (world.state("store"), world.started) == ("failed", ["store"] * 3)


def test_a_oneshot_that_hangs_is_killed_at_its_limit() -> None:
    world = World(service("store", kind="oneshot", timeout_s=30, restart={"policy": "never"}))
    world.want("store")
    world.after(30)
    assert (world.state("store"), world.host.processes["store"].killed) == ("failed", True)


def test_a_restarted_service_waits_for_what_it_needs_again() -> None:
    world = World.running(service("kafka"), service("silver", depends_on={"kafka": "healthy"}))
    world.host.ready.clear()
    world.ends("kafka", -9)
    world.ends("silver", 1)
    world.after(1)
    assert (world.state("kafka"), world.state("silver")) == ("starting", "waiting")
    world.ready("kafka")
    assert world.state("silver") == "starting"


def test_a_dead_service_does_not_stop_its_dependents() -> None:
    world = World.running(service("kafka"), service("connect", depends_on={"kafka": "healthy"}))
    world.ends("kafka", -9)
    assert world.state("connect") == "ready"
    assert world.host.processes["connect"].signals == []


def chain() -> World:
    """connect → (oneshot) connectors → silver, all done."""
    world = World(
        service("connect"),
        service("connectors", kind="oneshot", depends_on={"connect": "healthy"}),
        service("silver", depends_on={"connectors": "completed"}),
    )
    world.want("connect", "connectors", "silver")
    world.ready("connect")
    world.ends("connectors", 0)
    world.ready("silver")
    return world


def test_dependents_end_before_what_they_depend_on_also_through_oneshots() -> None:
    world = chain()
    world.want()
    assert (world.state("silver"), world.state("connect")) == ("stopping", "ready")
    world.ends("silver", 143)
    assert (world.state("silver"), world.state("connect")) == ("stopped", "stopping")
    assert not world.supervisor.idle
    world.ends("connect", 143)
    assert world.supervisor.idle


def test_a_service_that_ignores_the_signal_is_killed_after_its_time() -> None:
    world = chain()
    world.want()
    process = world.host.processes["silver"]
    assert process.signals == [15]
    world.after(19)
    assert not process.killed
    world.after(1)
    assert process.killed
    world.after(0.1)
    assert world.state("silver") == "stopped"


def test_a_service_stops_while_it_waits_or_pauses() -> None:
    world = World(service("kafka"), service("connect", depends_on={"kafka": "healthy"}))
    world.want("kafka", "connect")
    world.ends("kafka", 1)
    assert (world.state("kafka"), world.state("connect")) == ("backoff", "waiting")
    world.want()
    assert world.supervisor.idle


def test_asking_again_gives_a_failed_service_a_fresh_chance() -> None:
    world = World(service("kafka"))
    world.want("kafka")
    for _ in range(FIRST_START_ATTEMPTS):
        world.ends("kafka", 1)
        world.after(2)
    assert world.state("kafka") == "failed"
    world.want("kafka")
    assert world.state("kafka") == "starting"
    world.ready("kafka")
    assert world.state("kafka") == "ready"


def test_asking_again_leaves_running_services_alone() -> None:
    world = World(service("kafka"), service("s3"))
    world.want("kafka")
    world.ready("kafka")
    world.want("kafka", "s3")
    assert world.started == ["kafka", "s3"]


def test_a_new_description_is_taken_at_the_next_start() -> None:
    world = World.running(service("kafka"))
    changed = service("kafka", command=["kafka", "--new"])
    world.supervisor.want(["kafka"], {"kafka": changed})
    world.supervisor.tick()
    assert world.supervisor.units["kafka"].service.command == ["kafka"]
    world.ends("kafka", 1)
    world.after(1)
    assert world.supervisor.units["kafka"].service.command == ["kafka", "--new"]


@pytest.mark.parametrize("code", [0, 1])
def test_a_service_that_ends_by_itself_is_started_again_whatever_its_code(code: int) -> None:
    world = World.running(service("kafka"))
    world.ends("kafka", code)
    world.after(1)
    assert world.started == ["kafka", "kafka"]
