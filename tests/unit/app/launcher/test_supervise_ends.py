"""The order of starts; the reports of ends to the host, and the time that it grants them."""

from __future__ import annotations

import signal

from tests.unit.supervised import World, service


def test_a_service_that_writes_at_its_end_gets_more_time_and_tells_why() -> None:
    world = World.running(service("trino"))
    world.host.grace["trino"] = 100.0
    world.want()
    assert "start-up cache" in world.supervisor.units["trino"].waits_for
    world.after(100)
    assert not world.host.processes["trino"].killed
    world.after(21)
    assert world.host.processes["trino"].killed


def test_every_end_is_told_with_how_it_came() -> None:
    world = World(service("trino"))
    world.want("trino")
    world.ends("trino", 1)
    world.after(5)
    world.ready("trino")
    world.ends("trino", -11)
    world.after(5)
    world.ready("trino")
    world.want()
    world.ends("trino", 143)
    assert world.host.ends == [
        ("trino", 1, False, False),
        ("trino", -11, False, True),
        ("trino", 143, True, True),
    ]


def test_what_nobody_waits_for_starts_after_what_is_waited_for() -> None:
    world = World(service("kafka"), service("trino"), service("page", awaited=False))
    world.want("kafka", "trino", "page")
    world.ready("kafka")
    assert world.state("page") == "waiting"
    assert world.supervisor.units["page"].waits_for == "trino (starting)"
    world.ready("trino")
    assert world.state("page") == "starting"
    world.ready("page")
    world.host.ready.clear()
    world.ends("trino", 1)
    world.ends("page", 1)
    world.after(2)
    assert (world.state("trino"), world.state("page")) == ("starting", "starting")


def test_what_an_awaited_service_depends_on_does_not_wait_for_it() -> None:
    world = World(
        service("database", awaited=False),
        service("page", depends_on={"database": "healthy"}),
    )
    world.want("database", "page")
    assert world.state("database") == "starting"
    world.ready("database")
    assert world.state("page") == "starting"


def test_what_watches_starts_where_something_else_cannot() -> None:
    world = World(
        service("kafka"),
        service("connect", depends_on={"kafka": "healthy"}),
        service("page", awaited=False),
    )
    world.want("kafka", "connect", "page")
    world.ends("kafka", 1)
    world.after(0.1)
    assert (world.state("kafka"), world.state("page")) == ("backoff", "starting")


def test_where_the_data_goes_too_everything_ends_at_once_and_postgres_by_itself() -> None:
    stops = {"signal": "SIGINT", "at_once": "SIGQUIT"}
    world = World.running(
        service("postgres", stop=stops), service("kafka", depends_on={"postgres": "healthy"})
    )
    world.supervisor.at_once = True
    world.want()
    postgres, kafka = (world.host.processes[name] for name in ("postgres", "kafka"))
    assert kafka.killed and not kafka.signals
    assert postgres.signals == [signal.SIGQUIT] and not postgres.killed
    world.ends("postgres", 2)
    assert world.supervisor.idle


def test_otherwise_a_service_ends_after_what_depends_on_it() -> None:
    world = World.running(service("postgres"), service("kafka", depends_on={"postgres": "healthy"}))
    world.want()
    postgres, kafka = (world.host.processes[name] for name in ("postgres", "kafka"))
    assert (kafka.signals, postgres.signals) == ([signal.SIGTERM], [])
    world.ends("kafka", 0)
    assert postgres.signals == [signal.SIGTERM]
