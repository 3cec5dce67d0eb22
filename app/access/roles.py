"""Reads `access.toml`: the roles, and their treatment of each class of column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from spark_streaming.contract.contract_files import (
    Classification,
    ContractFileError,
    Problem,
    near,
    read_keys,
)
from spark_streaming.contract.toml_lines import line_of

Treatment = Literal["show", "mask", "hide"]
SHIPPED = Path(__file__).parent / "access.toml"
ROLE_NAME = r"^[a-z][a-z0-9_]{0,30}$"
EVERYWHERE = "*"
Lines = dict[tuple[str | int, ...], int]
Where = Annotated[str, StringConstraints(min_length=1, max_length=4_000)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RowFilter(_Closed):
    """`[[roles.NAME.filters]]`: the role sees only the rows of `table` for which `where`, SQL of Trino's, holds."""

    table: str = Field(pattern=r"^[^.\s]+\.[^.\s]+$")
    where: Where


class Role(_Closed):
    """`[roles.NAME]`: the schemas that it reads, and its treatment of the columns of each class there.

    `writes`: "nothing"; "own", tables and views in the user's schema `own_NAME`; "anywhere", as the stack's owner.
    """

    description: str = ""
    writes: Literal["nothing", "own", "anywhere"] = "nothing"
    schemas: list[str] = Field(min_length=1)
    public: Treatment = "show"
    internal: Treatment = "show"
    personal: Treatment = "hide"
    sensitive: Treatment = "hide"
    filters: list[RowFilter] = Field(default_factory=list)

    def treatment(self, name: Classification) -> Treatment:
        """Return the treatment of a column of this class."""
        found: Treatment = getattr(self, name)
        return found

    @property
    def sees_all(self) -> bool:
        """Whether it sees every row and column of every schema as it is."""
        kinds = {self.public, self.internal, self.personal, self.sensitive}
        return kinds == {"show"} and self.schemas == [EVERYWHERE] and not self.filters

    def reads(self, schema: str) -> bool:
        """Check whether it reads a schema."""
        return EVERYWHERE in self.schemas or schema in self.schemas

    @model_validator(mode="after")
    def _copies_only_what_it_sees(self) -> Role:
        if self.writes == "anywhere" and not self.sees_all:
            raise ValueError(
                '`writes = "anywhere"` goes with `schemas = ["*"]`, `show` for every class and no filters: '
                'others write in a schema of their own (`writes = "own"`)'
            )
        return self


class _File(_Closed):
    roles: dict[str, Role] = Field(default_factory=dict)


@dataclass(frozen=True)
class Roles:
    """The roles by name, with their places in the files; `lines` are those of the home's file."""

    roles: Mapping[str, Role]
    path: Path
    lines: Lines

    def problem(self, place: tuple[str | int, ...], message: str, hint: str = "") -> Problem:
        """Return a mistake at the key `place` of the home's file."""
        return Problem(self.path, line_of(self.lines, place), message, hint)


def read_roles(path: Path, shipped: Path = SHIPPED) -> Roles:
    """Read the shipped roles, and the home's file `path` over them, if it exists.

    Raises: ContractFileError with each mistake, its line and a hint.
    """
    roles = dict(_read(shipped)[0])
    lines: Lines = {(): 1}
    if path.exists():
        own, lines = _read(path)
        roles |= own
    return Roles(roles, path, lines)


def _read(path: Path) -> tuple[dict[str, Role], Lines]:
    given, lines = read_keys(path)
    try:
        roles = _File.model_validate(given).roles
    except ValidationError as error:
        raise ContractFileError(_problems(path, lines, error)) from None
    wrong = [
        Problem(
            path,
            line_of(lines, ("roles", name)),
            f"`{name}` cannot be a role's name",
            "a role's name is lower-case letters, digits and `_`, at most 31",
        )
        for name in roles
        if not re.match(ROLE_NAME, name)
    ]
    if wrong:
        raise ContractFileError(wrong)
    return roles, lines


def _problems(path: Path, lines: Lines, error: ValidationError) -> list[Problem]:
    return [_problem(path, lines, item) for item in error.errors(include_url=False)]


def _problem(path: Path, lines: Lines, item: Any) -> Problem:
    place: tuple[str | int, ...] = item["loc"]
    name = ".".join(map(str, place))
    message, hint = f"`{name}`: {item['msg']}", ""
    if item["type"] == "extra_forbidden":
        message, hint = f"unknown key `{name}`", near(str(place[-1]), _known(place))
    elif item["type"] == "missing":
        message, hint = f"`{name}` is missing", "docs/governance.md has each key"
    elif item["type"] == "literal_error":
        message = f"`{name}` cannot be {item['input']!r}"
        hint = f"one of {item['ctx']['expected']}"
    elif item["type"] == "value_error":
        message = f"`{name}`: {item['ctx']['error']}"
    return Problem(path, line_of(lines, place), message, hint)


def _known(place: tuple[str | int, ...]) -> list[str]:
    if len(place) == 1:
        return list(_File.model_fields)
    return list((RowFilter if "filters" in place else Role).model_fields)
