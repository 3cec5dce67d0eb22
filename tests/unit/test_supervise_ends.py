"""What the host is told of ends, and the time that it grants them."""

from __future__ import annotations

from tests.unit.test_supervise import World, service


def test_a_service_that_writes_at_its_end_gets_more_time_and_tells_why() -> None:
    world = World(service("trino"))
    world.want("trino")
    world.ready("trino")
    world.host.grace["trino"] = 100.0
    world.want()
    assert "quicker" in world.supervisor.units["trino"].waits_for
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
