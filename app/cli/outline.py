"""The verbs with their options, read from their declarations without typer.

`load` imports `app.cli.main` with this module in the place of `typer`, which records the
declarations and runs no verb. So any Python 3.10 or later can print help before the first download,
and help never differs from the verbs' declarations. Standard library only.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

Verb = Callable[..., Any]
HELP_NAMES = ("-h", "--help")
DOCKER = "--docker"
_VALUES = {"str": "TEXT", "int": "N", "float": "N", "Path": "PATH"}


@dataclass(frozen=True)
class Declared:
    """A parameter as its verb declares it: `typer.Option(...)` or `typer.Argument(...)`."""

    option: bool
    default: Any
    names: tuple[str, ...]
    help: str
    metavar: str


@dataclass(frozen=True)
class Parameter:
    """A parameter of a verb; `value` is the name of an option's value in help ("" for a flag)."""

    name: str
    declared: Declared
    value: str
    many: bool

    @property
    def shown_default(self) -> str:
        """The default as help shows it; "" if it would not help a reader."""
        default = self.declared.default
        if isinstance(default, Enum):
            default = default.value
        unsaid = any(default is one for one in (None, ..., False, True)) or default in ("", [])
        return "" if unsaid else str(default)


@dataclass
class Command:
    """A verb, or a group of them (`children` by name)."""

    name: str
    help: str
    parameters: list[Parameter] = field(default_factory=list)
    children: dict[str, Command] = field(default_factory=dict)

    @property
    def options(self) -> list[Parameter]:
        """The parameters that begin with a dash, in the order of their declaration."""
        return [one for one in self.parameters if one.declared.option]

    @property
    def arguments(self) -> list[Parameter]:
        """The parameters without a dash, in the order of their declaration."""
        return [one for one in self.parameters if not one.declared.option]


class Typer:
    """Stands in for `typer.Typer`: records the verbs and groups that are added."""

    def __init__(self, *, name: str = "", help: str = "", **_: Any) -> None:
        self.name = name
        self.help = help
        self.mounted: list[tuple[str, Verb | Typer]] = []
        self.root: Verb | None = None

    def command(self, name: str = "", **_: Any) -> Callable[[Verb], Verb]:
        def mount(verb: Verb) -> Verb:
            self.mounted.append((name or verb.__name__.replace("_", "-"), verb))
            return verb

        return mount

    def callback(self, **_: Any) -> Callable[[Verb], Verb]:
        def mount(verb: Verb) -> Verb:
            self.root = verb
            return verb

        return mount

    def add_typer(self, group: Typer, *, name: str = "", **_: Any) -> None:
        self.mounted.append((name or group.name, group))


def Option(
    default: Any = ..., *names: str, help: str = "", metavar: str = "", **_: Any
) -> Declared:
    return Declared(True, default, names, help, metavar)


def Argument(default: Any = ..., *, help: str = "", metavar: str = "", **_: Any) -> Declared:
    return Declared(False, default, (), help, metavar)


class Exit(Exception):
    """Stands in for typer's exception of this name; nothing raises it here."""


class BadParameter(Exception):
    """Stands in for typer's exception of this name; nothing raises it here."""


class Context:
    """Stands in for `typer.Context` in annotations."""


def load() -> Command:
    """Return all commands as a tree; its child `--docker` has those of `headwater --docker`."""
    with _in_place_of_typer():
        found = _command("headwater", importlib.import_module("app.cli.main").app)
        docker = importlib.import_module("app.cli.verbs.docker").docker_app
        found.children[DOCKER] = _command(DOCKER, docker)
    return found


@contextmanager
def _in_place_of_typer() -> Iterator[None]:
    """Import the verbs' modules again, with this module as `typer`; restore `sys.modules` at the end."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_verbs(name)}
    package = vars(sys.modules["app.cli"])  # its attributes are its modules, too
    attributes = dict(package)
    for module in before:
        package.pop(module.rpartition(".")[2], None)
    sys.modules["typer"] = sys.modules[__name__]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_verbs(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        package.clear()
        package.update(attributes)


def _is_verbs(module: str) -> bool:
    own = module.startswith("app.cli.") and module != __name__
    return own or module.partition(".")[0] == "typer"


def _command(name: str, declared: Verb | Typer) -> Command:
    if isinstance(declared, Typer):
        text = declared.help or inspect.getdoc(declared.root) or ""
        found = Command(name, inspect.cleandoc(text))
        found.parameters = list(_parameters(declared.root)) if declared.root else []
        found.children = {each: _command(each, verb) for each, verb in declared.mounted}
        return found
    return Command(name, inspect.getdoc(declared) or "", list(_parameters(declared)))


def _parameters(verb: Verb) -> Iterator[Parameter]:
    for name, one in inspect.signature(verb).parameters.items():
        if not isinstance(one.default, Declared):
            continue
        kind, many = _kind(one.annotation, verb)
        value = "" if kind is bool else one.default.metavar or _value(kind)
        yield Parameter(name, one.default, value, many)


def _kind(annotation: Any, verb: Verb) -> tuple[Any, bool]:
    """Return the type of a parameter's value, and whether there may be several."""
    text = str(annotation).removesuffix(" | None")
    many = text.startswith("list[")
    text = text.removeprefix("list[").removesuffix("]") if many else text
    known = {"bool": bool, "str": str, "int": int, "float": float, "Path": Path}
    return known.get(text, verb.__globals__.get(text, text)), many


def _value(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"[{'|'.join(str(one.value) for one in kind)}]"
    return _VALUES.get(getattr(kind, "__name__", str(kind)), "TEXT")
