"""Templates: a closed set of names, literal escapes, and errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment.settings import load
from app.errors import HeadwaterError
from app.services.service import Service
from app.services.templates import Places, UnknownVariable, Variables, render, variables


class Jars:
    """Artefacts of one group, `lamp`."""

    def classpath(self, group: str) -> list[Path]:
        return [Path(f"/jars/{group}/a.jar"), Path(f"/jars/{group}/b.jar")]

    def directory(self, group: str) -> Path:
        return Path(f"/dist/{group}")

    def java(self) -> Path:
        return Path("/jre/bin/java")


@pytest.fixture
def rendered(tmp_path: Path):  # type: ignore[no-untyped-def]
    settings = load(tmp_path / "home", port_offset=1000)
    settings.ports.declare({"lamp": 4000})
    lookup = Variables(
        settings=settings,
        artefacts=Jars(),
        ports={"lamp": 4000},
        places=Places(Path("/run/lamp"), Path("/data/lamp")),
        service=Service.model_validate(
            {"name": "lamp", "folder": "/clone/lamp", "description": "shines", "command": ["lamp"]}
        ),
        folder=Path("/clone/lamp"),
        root=Path("/clone"),
        python=Path("/venv/bin/python"),
    )
    return lambda text: render(text, lookup, where="lamp/service.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${run} ${data} ${folder} ${root}", "/run/lamp /data/lamp /clone/lamp /clone"),
        ("${tmp}", "/run/lamp/tmp"),
        ("${service} ${instance} ${addresses.lamp}", "lamp 1 127.0.0.1:5000"),
        ("${java} ${python}", "/jre/bin/java /venv/bin/python"),
        ("127.0.0.1:${port.lamp}", "127.0.0.1:5000"),
        ("${classpath.lamp}", "/jars/lamp/a.jar:/jars/lamp/b.jar"),
        ("${dir.lamp}/bin", "/dist/lamp/bin"),
        ("${setting.topic_prefix}", "hw"),
        ("${store.lake}metastore", "s3://lake/metastore"),
        ("$${env:NAME} $$ $5 ${run}", "${env:NAME} $$ $5 /run/lamp"),
    ],
)
def test_a_variable_is_replaced(rendered, text: str, value: str) -> None:  # type: ignore[no-untyped-def]
    assert rendered(text) == value


def test_a_secret_is_made_once_and_kept(rendered) -> None:  # type: ignore[no-untyped-def]
    first = rendered("${secret.lamp_password}")
    assert len(first) == 32
    assert rendered("${secret.lamp_password}") == first


@pytest.mark.parametrize(
    "name", ["lmap", "port.torch", "setting.colour", "port.", "secret", "dir", "shape.lamp", ""]
)
def test_an_unknown_variable_names_itself_and_its_file(rendered, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HeadwaterError) as failure:
        rendered("a ${" + name + "} b")
    assert f"unknown variable `${{{name}}}` in lamp/service.toml" in str(failure.value)


def test_variables_are_listed_without_escaped_ones() -> None:
    assert variables("${a} $${b} ${c.d}") == ["a", "c.d"]


def test_a_value_is_not_rendered_again() -> None:
    def lookup(name: str) -> str:
        if name == "a":
            return "${b}"
        raise UnknownVariable(name)

    assert render("${a}", lookup, where="here") == "${b}"
