"""Finds the single SQL statement in an argument, a file or standard input."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from app.errors import HeadwaterError

# Quotes and comments, in which a semicolon ends nothing; a semicolon; anything else.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | ; | \s+ | .""",
    re.VERBOSE | re.DOTALL,
)


def read_statement(statement: str | None, file: str | None = None) -> str:
    """Return the text from an argument, a file, or standard input (`-`).

    Raises: HeadwaterError if neither or both are given, or the file cannot be read.
    """
    if (statement is None) == (file is None):
        raise HeadwaterError(
            "give one SQL statement", hint="headwater sql 'SELECT …', or -f FILE, or - for stdin"
        )
    if statement == "-" or file == "-":
        return sys.stdin.read()
    if file is None:
        return statement or ""
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwaterError(f"cannot read the statement from {file}", detail=str(error)) from error


def one_statement(text: str) -> str:
    """Return the only statement of `text`, without its semicolon and any comments after it.

    Raises: HeadwaterError if there is none or more than one.
    """
    statements = split_statements(text)
    if not statements:
        raise HeadwaterError("there is no SQL statement to run", hint="headwater sql 'SELECT 1'")
    if len(statements) > 1:
        raise HeadwaterError(
            f"{len(statements)} SQL statements were given",
            detail=f"the second begins: {statements[1].splitlines()[0][:80]}",
            hint="run one statement at a time",
        )
    return statements[0]


def shows_definition(statement: str) -> bool:
    """Whether a statement shows a table's or view's definition, which Trino shows only to owners."""
    return re.match(r"SHOW\s+CREATE\s", statement, re.IGNORECASE) is not None


def split_statements(text: str) -> list[str]:
    """Split at semicolons outside quotes and comments; parts with only comments are dropped."""
    statements: list[str] = []
    part: list[str] = []
    has_code = False
    for match in _TOKEN.finditer(text + ";"):
        token = match.group()
        if token == ";":
            if has_code:
                statements.append("".join(part).strip())
            part, has_code = [], False
            continue
        part.append(token)
        if not (token.isspace() or token.startswith(("--", "/*"))):
            has_code = True
    if has_code:  # an unclosed quote has absorbed the added semicolon
        statements.append("".join(part).removesuffix(";").strip())
    return statements
