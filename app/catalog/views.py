"""Reads the views of `trino/views/*.sql` and orders them by their dependencies.

A file begins with comment lines: `-- view: schema.name`, `-- question: …` (becomes the view's
comment), `-- reads: schema.table, …`, `-- columns:` with a line for each. `-- owner:`, `-- domain:`,
`-- tags: …, …`, `-- classification: column class, …` and, once for each column, `-- releases: column, reason`
may be among them. One SELECT follows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from app.errors import HeadwaterError
from spark_streaming.contract.contract_files import Classification, near

_KEYS = (
    "view", "question", "reads", "columns", "owner", "domain", "tags", "classification", "releases",
)  # fmt: skip
_KEY = re.compile(r"^-- ([a-z_]+):\s*(.*)$")
_COLUMN = re.compile(r"^--   (\S+)\s+(\S.*)$")
_MORE = re.compile(r"^--    \s*(\S.*)$")
# A column's line begins with its type, which may have arguments: `decimal(12, 4), the mean`.
_AFTER_TYPE = re.compile(r"^(?:[^,:(]|\([^)]*\))*[,:]\s*")
_NAME = re.compile(r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")


@dataclass(frozen=True)
class View:
    """One view: `name` and `reads` are `schema.table`, `select` is its query.

    `columns`: each column's description in the header; `classes`: the class of those that have one; `releases`: the
    reason why a column does not inherit the classes of its origins.
    """

    name: str
    question: str
    reads: tuple[str, ...]
    select: str
    owner: str = ""
    domain: str = ""
    tags: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    classes: tuple[tuple[str, Classification], ...] = ()
    releases: tuple[tuple[str, str], ...] = ()

    def create_sql(self) -> str:
        """Return the statement that makes or replaces the view, with its question as comment."""
        schema, table = self.name.split(".")
        comment = self.question.replace("'", "''")
        return (
            f'CREATE OR REPLACE VIEW "{schema}"."{table}" COMMENT \'{comment}\' '
            f"SECURITY DEFINER AS\n{self.select}"
        )


def read_views(folder: Path) -> list[View]:
    """Read every view of `folder`.

    Returns: the views, each after those that it reads.
    Raises: HeadwaterError naming a file with a wrong header, or views that read each other in a
        circle.
    """
    views: dict[str, View] = {}
    for path in sorted(folder.glob("*.sql")):
        view = parse_view(path.read_text(encoding="utf-8"), where=str(path))
        if view.name in views or view.name.split(".")[1] != path.stem:
            raise HeadwaterError(
                f"{path} defines view {view.name}",
                hint="a view has one file, and the file has the view's name",
            )
        views[view.name] = view
    return in_reading_order(list(views.values()))


def parse_view(text: str, *, where: str) -> View:
    """Parse a view's file; `where` names it in errors."""
    keys: dict[str, str] = {}
    releases: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("--"):
            break
        match = _KEY.match(line)
        if match and match.group(1) not in _KEYS:
            raise HeadwaterError(
                f"{where}:{number}: unknown key `{match.group(1)}`",
                hint=near(match.group(1), _KEYS),
            )
        if match and match.group(1) == "releases":
            releases.append(match.group(2).strip())
        elif match:
            keys[match.group(1)] = match.group(2).strip()
    missing = [key for key in ("view", "question", "reads", "columns") if key not in keys]
    if missing:
        raise HeadwaterError(
            f"{where} has no line `-- {missing[0]}:` at its top",
            hint="see trino/README.md for the header of a view",
        )
    reads = tuple(name.strip() for name in keys["reads"].split(","))
    for name in (keys["view"], *reads):
        if not _NAME.match(name):
            raise HeadwaterError(f"{where}: `{name}` is not schema.table in lower case")
    select = text[_header_length(text) :].strip().removesuffix(";").strip()
    columns = _columns(text)
    return View(
        keys["view"],
        keys["question"],
        reads,
        select,
        owner=keys.get("owner", ""),
        domain=keys.get("domain", ""),
        tags=_listed(keys.get("tags", "")),
        columns=tuple(columns.items()),
        classes=_classes(keys.get("classification", ""), columns, where),
        releases=tuple(_release(text, columns, where) for text in releases),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _columns(text: str) -> dict[str, str]:
    """What the header says of each column, behind its type."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in text[: _header_length(text)].splitlines():
        if match := _KEY.match(line):
            inside = match.group(1) == "columns"
        elif inside and (match := _COLUMN.match(line)):
            name = match.group(1)
            found[name] = match.group(2)
        elif inside and name and (match := _MORE.match(line)):
            found[name] += f" {match.group(1)}"
    return {
        name: said[match.end() :] if (match := _AFTER_TYPE.match(said)) else ""
        for name, said in found.items()
    }


def _release(text: str, columns: Collection[str], where: str) -> tuple[str, str]:
    name, _, reason = (part.strip() for part in text.partition(","))
    if name not in columns:
        raise HeadwaterError(
            f"{where}: `releases` names column `{name}`, which `columns` does not",
            hint=near(name, columns),
        )
    if not reason:
        raise HeadwaterError(
            f"{where}: `releases` of `{name}` gives no reason",
            hint=f"-- releases: {name}, why nobody can be told by it",
        )
    return name, reason


def _classes(
    text: str, columns: Collection[str], where: str
) -> tuple[tuple[str, Classification], ...]:
    found: list[tuple[str, Classification]] = []
    for item in _listed(text):
        name, _, given = item.partition(" ")
        if name not in columns:
            raise HeadwaterError(
                f"{where}: `classification` names column `{name}`, which `columns` does not",
                hint=near(name, columns),
            )
        kind = next((one for one in get_args(Classification) if one == given.strip()), None)
        if kind is None:
            raise HeadwaterError(
                f"{where}: `classification` of `{name}` cannot be {given.strip()!r}",
                hint=f"one of {', '.join(get_args(Classification))}",
            )
        found.append((name, kind))
    return tuple(found)


def in_reading_order(views: Sequence[View]) -> list[View]:
    """Sort the views, each after those that it reads, otherwise in the given order.

    Raises: HeadwaterError if views read each other in a circle.
    """
    left, order = list(views), []
    while left:
        waiting = {view.name for view in left}
        free = [view for view in left if not waiting.intersection(view.reads)]
        if not free:
            names = ", ".join(sorted(waiting))
            raise HeadwaterError("views read each other in a circle", detail=names)
        order += free
        left = [view for view in left if view not in free]
    return order


def _header_length(text: str) -> int:
    length = 0
    for line in text.splitlines(keepends=True):
        if not line.startswith("--"):
            break
        length += len(line)
    return length
