"""Formats preflight's findings: a list, the worst first; the SQL as one block; the consequences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from app.source.findings import LEFT_OUT, MISSING, NOTE, OK, Finding, Fix

_ORDER = (MISSING, LEFT_OUT, NOTE, OK)
_MARGIN = 10  # columns for the status, before the text
# More tables than this with the same finding become one entry; SQL, CSV and JSON have each of them.
_ALIKE_MAX = 5
# A longer statement is replaced by one line: a function's body says little to a reader.
_LINES_MAX = 20
_TODO_MAX = 90
_TABLE = "table "
_RUN_ALL = "-v ON_ERROR_STOP=1"


@dataclass(frozen=True)
class Entry:
    """One entry of the list: the check, its status, the observation, what to do."""

    check: str
    status: str
    observed: str
    todo: str = ""
    more: tuple[str, ...] = field(default=())  # further tables with the same finding


def entry_of(finding: Finding) -> Entry:
    """Make a finding an entry of the list."""
    return Entry(finding.check, finding.status, " ".join(finding.observed.split()), todo(finding))


def todo(finding: Finding) -> str:
    """Return the action for a finding in one line; empty if there is none."""
    runs = [fix for fix in finding.fixes if fix.run is not None]
    rest = [fix for fix in finding.fixes if fix.run is None]
    said = [_by_hand(fix) for fix in rest]
    if finding.purpose:
        said = [finding.purpose if runs else f"{finding.purpose} (by hand)"]
    elif len(runs) == 1 and "\n" not in runs[0].shown and len(runs[0].shown) <= _TODO_MAX:
        said.insert(0, f"run {runs[0].shown.rstrip(';')}")
    elif runs:
        said.insert(0, f"run its {len(runs)} statements of the SQL")
    return "; ".join(said)


def _by_hand(fix: Fix) -> str:
    if fix.shown.startswith("--"):
        return fix.shown.removeprefix("--").strip()
    first, *more = fix.shown.splitlines()
    return f"by hand: {first.rstrip(';')}{' …' if more else ''}"


def listed(entries: Iterable[Entry], width: int | None) -> list[str]:
    """Return the lines of the list, the worst first.

    Args:
        width: the terminal's columns; None if lines are not wrapped.
    """
    kept = sorted(_alike(entries), key=lambda one: _ORDER.index(one.status))
    lines: list[str] = []
    for entry in (one for one in kept if one.status != OK):
        name = entry.check
        if entry.more:
            name = f"{1 + len(entry.more)} tables"
        lines += _wrapped(f"{entry.status:<{_MARGIN}}{name}: {entry.observed}", width)
        if entry.more:
            tables = [entry.check.removeprefix(_TABLE), *entry.more]
            shown = ", ".join(tables[:_ALIKE_MAX])
            rest = len(tables) - _ALIKE_MAX
            lines += _wrapped(
                f"{'':{_MARGIN}}{shown}{f' and {rest} more' if rest > 0 else ''}", width
            )
        if entry.todo:
            lines += _wrapped(f"{'':{_MARGIN}}do: {entry.todo}", width)
    right = [one.check for one in kept if one.status == OK]
    count = sum(check.startswith(_TABLE) for check in right)
    names = [check for check in right if not check.startswith(_TABLE)]
    names += [_tables(count)] if count else []
    return lines + (_wrapped(f"{OK:<{_MARGIN}}{', '.join(names)}", width) if names else [])


def _alike(entries: Iterable[Entry]) -> list[Entry]:
    """Combine entries if many tables have the same finding."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        # The statement for a table names the table.
        name = entry.check.removeprefix(_TABLE)
        quoted = ".".join(f'"{part}"' for part in name.split("."))
        same = entry.todo.replace(quoted, "TABLE").replace(name, "TABLE")
        is_table = entry.check.startswith(_TABLE) and entry.status != OK
        key = (entry.status, entry.observed, same) if is_table else (entry.check, entry.observed)
        groups.setdefault(key, []).append(Entry(entry.check, entry.status, entry.observed, entry.todo, (same,)))  # fmt: skip
    found: list[Entry] = []
    for group in groups.values():
        if len(group) <= _ALIKE_MAX:
            found += [Entry(one.check, one.status, one.observed, one.todo) for one in group]
            continue
        first = group[0]
        more = tuple(one.check.removeprefix(_TABLE) for one in group[1:])
        found.append(Entry(first.check, first.status, first.observed, first.more[0], more))
    return found


def _wrapped(text: str, width: int | None) -> list[str]:
    # A name may contain control characters.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if width is None or len(text) <= width:
        return [text]
    indent = " " * (_MARGIN + 2)
    return textwrap.wrap(
        text, max(width, 40), subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False, replace_whitespace=False, drop_whitespace=True,
    )  # fmt: skip


def sql_block(findings: Sequence[Finding], *, whole: bool) -> str:
    """Return the SQL of all findings, to be copied into psql; empty if there is none.

    Statements that a person has to decide on, or another role has to run, are commented out.

    Args:
        whole: include long functions; otherwise one line has their purpose.
    """
    parts = [_sql(finding, whole=whole) for finding in findings if finding.fixes]
    if not parts:
        return ""
    if any(fix.run is not None for finding in findings for fix in finding.fixes):
        # As with `--apply`: a change that waits behind a long transaction delays all sessions after
        # it.
        parts.insert(0, "SET lock_timeout = '5s';")
    return "\n\n".join(parts)


def _sql(finding: Finding, *, whole: bool) -> str:
    head = textwrap.shorten(f"-- {finding.check}: {finding.observed}", 100, placeholder=" …")
    texts = [_statement(fix) for fix in finding.fixes]
    longest = max(text.count("\n") + 1 for text in texts)
    if not whole and longest > _LINES_MAX:
        count = sum(text.count("\n") + 1 for text in texts)
        purpose = finding.purpose or "its statements"
        return f"{head}\n-- {purpose}: {count} lines, which preflight --sql prints"
    return "\n".join([head, *texts])


def _statement(fix: Fix) -> str:
    if fix.run is not None:
        return fix.run.as_string(None).rstrip().rstrip(";") + ";"
    # Comment each line: a name may contain a line break.
    text = fix.shown.removeprefix("--").strip() if fix.shown.startswith("--") else fix.shown
    return "\n".join(f"-- {line}" for line in text.splitlines())


def meaning(findings: Sequence[Finding], *, command: str) -> list[str]:
    """Return the consequences of the findings for capturing, and the next step; one sentence per line.

    Args:
        command: the command that runs the SQL, as a user types it.
    """
    of = {status: [f for f in findings if f.status == status] for status in _ORDER}
    tables = [f for f in findings if f.check.startswith(_TABLE)]
    left_out = [f for f in tables if f.status == LEFT_OUT]
    fixable = [f for f in left_out if f.fixes]
    said = []
    if of[MISSING]:
        said.append(
            f"Nothing can be captured until the missing points are fixed ({len(of[MISSING])})."
        )
    elif len(left_out) < len(tables):
        said.append(
            f"{len(tables) - len(left_out)} of {len(tables)} tables can be captured as they are."
        )
    elif not tables:
        said.append("There is no table yet; new tables will be captured.")
    if fixable:
        said.append(f"Left out until the SQL is run: {_tables(len(fixable))}.")
    if rest := len(left_out) - len(fixable):
        said.append(f"Left out for a reason that no SQL removes: {_tables(rest)}.")
    if any(fix.run is not None for finding in findings for fix in finding.fixes):
        said.append(f"To run the SQL: {command} --apply (or copy it into psql {_RUN_ALL}).")
    if any(fix.run is None for status in (MISSING, NOTE) for f in of[status] for fix in f.fixes):
        said.append("Statements that are commented out need a person's decision, or a superuser.")
    return said or ["This source can be captured as it is."]


def _tables(count: int) -> str:
    return f"{count} {'table' if count == 1 else 'tables'}"
