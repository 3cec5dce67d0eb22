"""Services that need a program of the machine use it if it is installed, and report if it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.environment.settings import load
from app.errors import HeadwaterError
from app.launcher.control import Stack
from app.services.binary import find_binary, is_available
from app.services.description_parts import Binary
from app.services.service import Service

LAMP = Binary(names=["lamp-of-nobody", "lamp"], get="buy one", home_variable="LAMP_HOME")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def described(root: Path) -> None:
    (root / "lamps").mkdir()
    (root / "lamps" / "service.toml").write_text(
        '[services.lamp]\ndescription = "shines"\ncommand = ["${binary}"]\n'
        'requires_binary = { names = ["lamp"], get = "buy one" }\n'
        '[services.shade]\ndescription = "shades"\ncommand = ["true"]\n'
        'depends_on = { lamp = "started" }\n'
    )


def test_the_folder_of_the_variable_comes_before_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program(tmp_path / "path" / "lamp")
    at_home = program(tmp_path / "home" / "bin" / "lamp")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_binary(LAMP) == on_path
    monkeypatch.setenv("LAMP_HOME", str(tmp_path / "home"))
    assert find_binary(LAMP) == at_home


def test_a_service_without_its_program_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    stack = Stack(load(tmp_path / "home"), root=tmp_path)
    assert stack.select([]) == ["shade"]
    [shade, lamp] = stack.status()
    assert (shade.service, shade.state) == ("shade", "stopped")
    assert (lamp.service, lamp.state) == ("lamp", "unavailable")
    assert lamp.last_error == "`lamp` is not on this machine; to have it: buy one"
    with pytest.raises(HeadwaterError, match="`lamp` cannot run here") as failure:
        stack.select(["lamp"])
    assert "buy one" in failure.value.detail


def test_a_service_with_its_program_is_a_service_like_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(tmp_path)
    found = program(tmp_path / "path" / "lamp")
    monkeypatch.setenv("PATH", str(found.parent))
    stack = Stack(load(tmp_path / "home"), root=tmp_path)
    assert stack.select([]) == ["lamp", "shade"]
    assert stack.unavailable == {}


def test_a_service_that_needs_nothing_of_the_machine_is_available() -> None:
    assert is_available(Service(name="x", folder=Path("/x"), description="x", command=["x"]))


@pytest.mark.parametrize(("minor", "runs"), [(10, True), (12, True), (13, False), (14, False)])
def test_services_whose_packages_end_at_a_python_are_left_out_on_a_newer_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minor: int, runs: bool
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, minor, 0))
    stack = Stack(load(tmp_path / "home", dashboards=True))
    ours = {"superset-db", "superset-init", "superset", "superset-assets"}
    assert ours <= set(stack.services if runs else stack.unavailable)
    assert {"postgres", "silver", "trino"} <= set(stack.services)
    if not runs:
        with pytest.raises(HeadwaterError, match="cannot run here") as caught:
            stack.select(["superset"])
        assert f"no packages for Python 3.{minor}, at most 3.12" in caught.value.detail
        assert "HEADWATER_PYTHON=python3.12" in caught.value.detail
