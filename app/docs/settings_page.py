"""The reference of settings: a profile's keys, and environment variables."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import SecretStr

from app.docs.markdown import code, page, table
from app.environment.keys.alert_settings import AlertSettings
from app.environment.profile import Profile

_INTRODUCTION = """
A profile is a TOML file: `./headwater up --profile FILE`. The stack keeps its values in `settings.toml`
of its home for every later command. An unknown key is an error that names the key and the file.

```toml
# two-cores.toml
source_dsn = "postgresql://owner@db.example:5432/shop"
silver_retention_minutes = 60
```
"""
_ENVIRONMENT = {
    "HEADWATER_HOME": "The home: the folder of all state. Default: `.stack` in the clone.",
    "HEADWATER_SOURCE_DSN": "The Postgres to capture, where `--source` is not given.",
    "HEADWATER_SERVING_DSN": "The database that jobs publish in; as `serving_dsn`.",
    "HEADWATER_PORT_OFFSET": "Added to every port; as `port_offset`.",
    "HEADWATER_CACHE": "The folder of downloads and of the Python environment. Default: `~/.cache/headwater`.",
    "HEADWATER_PYTHON": "The Python to use; no other is tried.",
    "HEADWATER_MAVEN_MIRROR": "The address of a Maven mirror to fetch from.",
    "HEADWATER_AOT": "`off`: JVMs start without the caches of earlier runs.",
    "HEADWATER_JVM_OPTIONS": "Options added to every JVM of the stack, separated by blanks; `-XX:TieredStopAtLevel=1` turns the second compiler off: a start uses less CPU, and throughput is lower afterwards.",
    "HEADWATER_DEBUG": "Set: a failure shows its stack trace, as `--debug` does.",
}
_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def settings_page() -> str:
    """Every key of a profile with type, default and meaning; then the environment variables."""
    alerts = set(AlertSettings.model_fields)
    heads = ("key", "type", "default", "meaning")
    keys = [name for name in Profile.model_fields if name not in alerts]
    return page(
        "Settings",
        _INTRODUCTION,
        "## The stack",
        table(heads, _rows(keys)),
        "## Alerts",
        "Who is notified; addresses that are not set are left out. Those of `data_alert_*` are for the team "
        "that owns the data: without any of them the general ones get these alerts too.",
        table(heads, _rows(list(alerts & set(AlertSettings.model_fields)))),
        "## Environment variables",
        table(("variable", "meaning"), ((code(k), v) for k, v in _ENVIRONMENT.items())),
    )


def environment_variables() -> list[str]:
    """The variables that the page names."""
    return list(_ENVIRONMENT)


def _rows(names: list[str]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in Profile.model_fields.items():
        if name in names:
            kind = _kind(field.annotation, field.metadata)
            yield code(name), kind, _default(field), field.description or ""


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", {}, ()):
        return ""
    return code(str(value).lower() if isinstance(value, bool) else value)


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """A type as people say it, with its bounds or its choices."""
    plain = _without_none(annotation)
    if typing.get_origin(plain) is Literal:
        return " or ".join(code(each) for each in typing.get_args(plain))
    if plain is SecretStr:
        return "text, secret"
    if typing.get_origin(plain) is dict:
        return "table of numbers"
    if typing.get_origin(plain) is tuple:
        return "tables"
    choice = re.fullmatch(r"\^\(([\w|-]+)\)\$", _constraint(metadata, "pattern") or "")
    if choice:
        return ", ".join(code(each) for each in choice[1].split("|"))
    low, high = _constraint(metadata, "ge"), _constraint(metadata, "le")
    bounds = f", {low} to {high}" if high is not None else f", at least {low}"
    return _NAMES[plain] + (bounds if low is not None else "")


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        [annotation] = [each for each in typing.get_args(annotation) if each is not type(None)]
    return annotation


def _constraint(metadata: list[Any], name: str) -> Any:
    return next((getattr(each, name) for each in metadata if hasattr(each, name)), None)
