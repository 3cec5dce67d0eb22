"""Conditions that refuse a start, and their messages."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from app.errors import HeadwaterError
from app.launcher import start_checks as checks
from app.services.service import Service

MB = 1_000_000


def service(name: str, memory_mb: int = 0, **ports: int) -> Service:
    return Service(
        name=name,
        folder=Path("/x"),
        description=name,
        command=[name],
        memory_mb=memory_mb,
        ports=ports,
    )


def test_a_free_port_passes() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    checks.check_ports([service("kafka", kafka=port)], lambda name: port)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_names_service_and_holder(address: str) -> None:
    with socket.socket() as other:
        other.bind((address, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(HeadwaterError) as failure:
            checks.check_ports([service("kafka", kafka_controller=port)], lambda name: port)
    assert f"{port} (kafka_controller of kafka) is held by" in failure.value.detail
    assert f"(pid {os.getpid()}, user " in failure.value.detail


def test_all_taken_ports_are_told_at_once() -> None:
    with socket.socket() as one, socket.socket() as two:
        numbers = {}
        for name, other in (("a", one), ("b", two)):
            other.bind(("127.0.0.1", 0))
            other.listen()
            numbers[name] = other.getsockname()[1]
        with pytest.raises(HeadwaterError, match="2 ports are taken"):
            checks.check_ports([service("x", **numbers)], numbers.__getitem__)


def test_too_little_memory_names_the_largest_services() -> None:
    services = [service("trino", 1100), service("silver", 2000), service("s3", 150)]
    with pytest.raises(HeadwaterError) as failure:
        checks.check_memory(services, available_bytes=1000 * MB)
    assert failure.value.message == (
        "too little memory: the services need about 3250 MB, 1000 MB are free"
    )
    assert failure.value.detail.startswith("silver 2000 MB, trino 1100 MB")
    assert "--only" in failure.value.hint


def test_almost_enough_memory_passes() -> None:
    checks.check_memory([service("trino", 1000)], available_bytes=850 * MB)


def test_the_machine_has_some_memory() -> None:
    assert checks.free_memory_bytes() > 0


def test_a_full_disk_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError) as failure:
        checks.check_disk(tmp_path / "not" / "made", free_bytes=200 * MB)
    assert "0.2 GB free" in failure.value.message
    assert "HEADWATER_HOME" in failure.value.hint
