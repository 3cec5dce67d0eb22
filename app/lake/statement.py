"""The one SQL statement in a text that a user typed, piped or kept in a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from app.errors import HeadwaterError

# What may hold a semicolon that ends nothing; then a semicolon that does; then anything else.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | ; | \s+ | .""",
    re.VERBOSE | re.DOTALL,
)


def read_statement(statement: str | None, file: str | None = None) -> str:
    """The text that a user gave: an argument, a file, or standard input for `-`.

    Raises: HeadwaterError where nothing or two things were given, or the file cannot be read.
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
    """The only statement of `text`, without its closing semicolon and what comments follow it.

    Raises: HeadwaterError where there is none or more than one.
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


def split_statements(text: str) -> list[str]:
    """Split at semicolons outside quotes and comments; parts of only comments are left out."""
    statements: list[str] = []
    part: list[str] = []
    says_something = False
    for match in _TOKEN.finditer(text + ";"):
        token = match.group()
        if token == ";":
            if says_something:
                statements.append("".join(part).strip())
            part, says_something = [], False
            continue
        part.append(token)
        if not (token.isspace() or token.startswith(("--", "/*"))):
            says_something = True
    if says_something:  # the last quote never closed, and swallowed the semicolon we added
        statements.append("".join(part).removesuffix(";").strip())
    return statements
