"""Finding the single statement in a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import HeadwaterError
from app.query.statement import one_statement, read_statement, split_statements


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT 1 ;\n", "SELECT 1"),
        ("SELECT 1; -- done", "SELECT 1"),
        ("SELECT 1; /* a; b */ ;", "SELECT 1"),
        ("SELECT ';' AS a", "SELECT ';' AS a"),
        ("SELECT 'it''s; fine'", "SELECT 'it''s; fine'"),
        ('SELECT 1 AS "a;b"', 'SELECT 1 AS "a;b"'),
        ("-- first; comment\nSELECT 1;", "-- first; comment\nSELECT 1"),
        ("SELECT 1 - -1", "SELECT 1 - -1"),
        ("SELECT 'not closed", "SELECT 'not closed"),
    ],
)
def test_semicolons_in_quotes_and_comments_end_nothing(text: str, statement: str) -> None:
    assert one_statement(text) == statement


@pytest.mark.parametrize("text", ["", " ; ", "-- nothing\n", "/* nothing */ ;"])
def test_a_text_without_a_statement_is_refused(text: str) -> None:
    with pytest.raises(HeadwaterError, match="no SQL statement"):
        one_statement(text)


def test_a_second_statement_is_refused_and_shown() -> None:
    with pytest.raises(HeadwaterError, match=r"2 SQL statements(.|\n)*begins: SELECT 2") as caught:
        one_statement("SELECT 1; SELECT 2 FROM a\nWHERE b")
    assert caught.value.hint == "run one statement at a time"


def test_statements_are_split_in_order() -> None:
    assert split_statements("a; b;; c") == ["a", "b", "c"]


def test_a_statement_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "query.sql"
    file.write_text("SELECT 'é'")
    assert read_statement(None, str(file)) == "SELECT 'é'"


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match=r"cannot read the statement from .*missing\.sql"):
        read_statement(None, str(tmp_path / "missing.sql"))


def test_a_statement_and_a_file_together_are_refused() -> None:
    with pytest.raises(HeadwaterError, match="give one SQL statement"):
        read_statement("SELECT 1", "query.sql")
