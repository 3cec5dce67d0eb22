"""Service descriptions have a closed set of keys and an order; mistakes are reported with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment.settings import ROOT
from app.errors import HeadwaterError
from app.services.service import (
    ONESHOT_RESTARTS_MAX,
    declared_ports,
    dependency_order,
    load_services,
    read_services,
    with_dependencies,
)

MINIMAL = """
[services.lamp]
description = "shines"
command = ["lamp"]
"""


def described(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "service.toml"
    path.write_text(text)
    return path


def test_a_minimal_description_gets_the_defaults(tmp_path: Path) -> None:
    [lamp] = read_services(described(tmp_path, MINIMAL))
    assert (lamp.name, lamp.kind, lamp.restart.policy) == ("lamp", "service", "on-failure")
    assert (lamp.restart.max_restarts, lamp.restart.window_s) == (10, 600)
    assert (lamp.stop.signal, lamp.stop.timeout_s) == ("SIGTERM", 20)


def test_a_oneshot_is_tried_again_a_few_times_only(tmp_path: Path) -> None:
    [lamp] = read_services(described(tmp_path, MINIMAL + 'kind = "oneshot"\n'))
    assert lamp.restart.max_restarts == ONESHOT_RESTARTS_MAX


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("colour = 1", "unknown key `services.lamp.colour`"),
        ("[services.lamp.ready]\ntcp = 'a:1'\nlog = 'x'", "exactly one of tcp, http, log, command"),
        ("[services.lamp.ready]\ntimeout_s = 3", "exactly one of tcp, http, log, command"),
        ("[services.lamp.ready]\ntcp = 'a:1'\nstatus = [200]", "status needs http"),
        ("[services.lamp.stop]\nsignal = 'SIGNONE'", "unknown signal SIGNONE"),
        ("[services.lamp.restart]\npolicy = 'always'", "services.lamp.restart.policy"),
        ("files = { '../x' = 'y' }", "must be inside its folder"),
        ("kind = 'oneshot'\nready = { tcp = 'a:1' }", "a oneshot is ready when it exits 0"),
        ("ports = { lamp = 70000 }", "services.lamp.ports.lamp"),
    ],
)
def test_a_wrong_description_names_key_and_file(tmp_path: Path, extra: str, told: str) -> None:
    path = described(tmp_path, MINIMAL + extra)
    with pytest.raises(HeadwaterError) as failure:
        read_services(path)
    assert told in str(failure.value)
    assert str(path) in str(failure.value)


def test_a_service_like_another_has_its_keys_but_for_its_own(tmp_path: Path) -> None:
    more = '[services.torch]\nlike = "lamp"\ndescription = "is carried"\n'
    lamp, torch = read_services(described(tmp_path, MINIMAL + more))
    assert (torch.command, torch.description) == (lamp.command, "is carried")
    with pytest.raises(HeadwaterError, match="`torch` is like `lantern`"):
        read_services(described(tmp_path, MINIMAL + more.replace("lamp", "lantern")))


def test_an_unknown_table_in_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="unknown key `volumes`"):
        read_services(described(tmp_path, MINIMAL + "[volumes.a]\n"))


def test_text_that_is_not_toml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="is not TOML"):
        read_services(described(tmp_path, "services = ["))


def test_a_service_described_twice_names_both_files(tmp_path: Path) -> None:
    described(tmp_path / "a", MINIMAL)
    described(tmp_path / "b", MINIMAL)
    with pytest.raises(HeadwaterError) as failure:
        load_services(tmp_path)
    assert str(tmp_path / "a" / "service.toml") in str(failure.value)
    assert str(tmp_path / "b" / "service.toml") in str(failure.value)


@pytest.mark.parametrize("second", ["lamp = 5", "torch = 4"])
def test_a_port_name_or_number_is_given_once(tmp_path: Path, second: str) -> None:
    described(tmp_path / "a", MINIMAL + "ports = { lamp = 4 }\n")
    described(tmp_path / "b", MINIMAL.replace("lamp", "torch") + f"ports = {{ {second} }}\n")
    with pytest.raises(HeadwaterError, match="port"):
        load_services(tmp_path)


CHAIN = """
[services.c]
description = "c"
command = ["c"]
depends_on = { b = "healthy" }
[services.b]
description = "b"
command = ["b"]
depends_on = { a = "completed" }
[services.a]
description = "a"
command = ["a"]
[services.z]
description = "z"
command = ["z"]
"""


def test_dependencies_come_first(tmp_path: Path) -> None:
    described(tmp_path / "x", CHAIN)
    assert list(load_services(tmp_path)) == ["a", "b", "c", "z"]


def test_a_named_service_brings_what_it_needs_and_no_more(tmp_path: Path) -> None:
    described(tmp_path / "x", CHAIN)
    assert with_dependencies(load_services(tmp_path), ["b"]) == ["a", "b"]


def test_a_circle_of_dependencies_is_spelled_out(tmp_path: Path) -> None:
    services = {s.name: s for s in read_services(described(tmp_path, CHAIN))}
    services["a"] = services["a"].model_copy(update={"depends_on": {"c": "healthy"}})
    with pytest.raises(HeadwaterError) as failure:
        dependency_order(services)
    assert failure.value.detail == "c → b → a → c"


def test_an_unknown_service_is_told_with_the_known_ones(tmp_path: Path) -> None:
    described(tmp_path / "x", MINIMAL + 'depends_on = { sun = "healthy" }\n')
    with pytest.raises(HeadwaterError) as failure:
        with_dependencies(load_services(tmp_path), ["lamp"])
    assert "there is no service `sun`" in str(failure.value)
    assert "`lamp` depends on it" in failure.value.detail
    assert failure.value.hint == "known are lamp"


def test_the_projects_own_descriptions_are_right() -> None:
    services = load_services(ROOT)
    assert with_dependencies(services, services) == dependency_order(services)
    assert len(declared_ports(services)) == len(set(declared_ports(services).values()))
