"""Announces a table's new columns before silver commits them, where Trino's rules mask columns.

Trino shows a column as soon as it is committed, and columns that no rule names are visible. So the rules come first:
1. Write the columns that are to come into `announced/<table>.json` of the folder, under the rules' lock.
2. Where no rule names the table, people do not see it at all: go on.
3. Wait until the registrar has removed the file: then its rules have the columns.
4. Wait as long as Trino may still use the rules before.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER_VARIABLE = "HEADWATER_ACCESS_FOLDER"  # only where people have roles
ANNOUNCED, LOCK = "announced", ".rules.lock"
# Trino reads its rules again each second (`security.refresh-period`).
REFRESH_S = 1.3
WAIT_S = 30.0
_LOOK_S = 0.05


class ColumnsNotProtectedError(Exception):
    """The rules do not have a table's new columns yet; the batch is tried again."""


def announce(
    table: str,
    columns: Iterable[str],
    folder: str | None = None,
    wait_s: float = WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
    schema: str = "silver",
) -> None:
    """Return when Trino's rules have these columns of a table; at once if there are no roles.

    Args:
        folder: of the rules; None: HEADWATER_ACCESS_FOLDER.
    Raises: ColumnsNotProtectedError after `wait_s`.
    """
    found = os.environ.get(FOLDER_VARIABLE, "") if folder is None else folder
    names = sorted(name.lower() for name in columns)
    if not found or not names:
        return
    home = Path(found)
    name = f"{schema}.{table.lower()}"
    path = home / ANNOUNCED / f"{name}.json"
    with _locked(home):
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(names))
        temporary.replace(path)
        if not _has_rules(home / "rules.json", schema, table.lower()):
            path.unlink()
            return
    deadline = time.monotonic() + wait_s
    while path.exists():
        if time.monotonic() > deadline:
            raise ColumnsNotProtectedError(
                f"column(s) {', '.join(names)} of {table} wait for the rules that protect them"
                f" ({wait_s:.0f} s)\n  hint: the service `tables` writes them: ./headwater status tables"
            )
        sleep(_LOOK_S)
    sleep(REFRESH_S)


def _has_rules(rules: Path, schema: str, table: str) -> bool:
    """Whether somebody but the stack itself may read the table."""
    try:
        known = json.loads(rules.read_text())["tables"]
    except (OSError, ValueError, KeyError):
        return True
    return any(
        rule.get("schema") == schema and str(rule.get("table", "")).replace("\\", "") == table
        for rule in known
    )


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with open(home / LOCK, "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
