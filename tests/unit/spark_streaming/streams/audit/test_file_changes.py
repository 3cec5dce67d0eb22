"""What the audit says of changes of contract files and `access.toml`."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Any

import pytest

from spark_streaming.streams.audit.file_changes import SETTLED_S, FileChanges

CONTRACT = """
[columns.email]
classification = "personal"
mask = "hash"
[columns.status]
values = ["a secret word"]
"""


class Home:
    """A home with a folder of contract files, looked at when all that is in it has settled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contracts = folder / "contracts"
        (self.contracts / "streams").mkdir(parents=True)
        self.ahead_s = SETTLED_S + 1
        self.restart()

    def restart(self) -> None:
        self.files = FileChanges(
            [self.contracts], self.folder, clock=lambda: time.time() + self.ahead_s
        )

    def look(self) -> list[dict[str, Any]]:
        """The rows of one look; the service has written them."""
        found = [one.values for one in self.files.found()]
        self.files.keep()
        return found

    def details(self) -> list[Any]:
        return [json.loads(row["detail"]) for row in self.look()]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    (made.contracts / "public.customers.toml").write_text(CONTRACT)
    assert made.look() == []
    return made


def test_a_changed_class_is_told_with_who_when_file_and_table(home: Home) -> None:
    file = home.contracts / "public.customers.toml"
    file.write_text(CONTRACT.replace("personal", "internal"))
    [event] = home.files.found()
    assert abs(event.time.timestamp() - file.stat().st_ctime) < 0.001
    assert {
        key: event.values[key] for key in ("kind", "user_name", "query_type", "statement", "tables")
    } == {
        "kind": "change",
        "user_name": getpass.getuser(),
        "query_type": "contract changed",
        "statement": str(file),
        "tables": "silver.customers",
    }
    assert json.loads(event.values["detail"]) == {
        "columns.email.classification": "personal → internal"
    }


def test_values_that_may_be_of_rows_are_not_told(home: Home) -> None:
    file = home.contracts / "public.customers.toml"
    file.write_text(CONTRACT.replace("a secret word", "another one"))
    (home.folder / "access.toml").write_text(
        '[roles.support]\nschemas = ["silver"]\npersonal = "show"\n'
        '[[roles.support.filters]]\ntable = "silver.customers"\nwhere = "email = \'a@x.org\'"\n'
    )
    assert home.details() == [
        {"columns.status.values": "changed"},
        {
            "roles.support.filters.0.table": "added",
            "roles.support.filters.0.where": "added",
            "roles.support.personal": "added: show",
            "roles.support.schemas": 'added: ["silver"]',
        },
    ]


def test_a_file_that_is_removed_while_nothing_runs_is_told_at_the_next_start(home: Home) -> None:
    (home.contracts / "public.customers.toml").unlink()
    home.restart()
    [row] = home.look()
    assert (row["query_type"], row["user_name"]) == ("contract removed", None)
    assert json.loads(row["detail"])["columns.email.classification"] == "removed: personal"
    assert home.look() == []


def test_a_comment_and_a_file_written_again_as_it_was_are_no_change(home: Home) -> None:
    file = home.contracts / "public.customers.toml"
    file.write_text(f"# why\n{CONTRACT}")
    assert home.look() == []
    (home.folder / "new").write_text(f"# why\n{CONTRACT}")
    (home.folder / "new").replace(file)
    assert home.look() == []


def test_a_file_that_cannot_be_read_hides_no_change(home: Home) -> None:
    file = home.contracts / "public.customers.toml"
    file.write_text("[columns")
    assert home.details() == [{"file": "cannot be read"}]
    file.write_text(CONTRACT.replace('mask = "hash"\n', ""))
    assert home.details() == [{"columns.email.mask": "removed: hash", "file": "can be read again"}]


def test_half_a_file_is_not_looked_at(home: Home) -> None:
    file = home.contracts / "public.customers.toml"
    home.ahead_s = 0
    file.write_text("[columns")
    assert home.look() == []
    file.write_text(CONTRACT.replace("personal", "sensitive"))
    home.ahead_s = SETTLED_S + 1
    assert home.details() == [{"columns.email.classification": "personal → sensitive"}]


def test_a_change_is_found_again_until_its_row_is_kept(home: Home) -> None:
    (home.contracts / "streams" / "clicks.toml").write_text('owner = "web"\n')
    [first] = home.files.found()
    home.restart()
    [second] = home.files.found()
    assert (first.key, first.values["query_type"], first.values["tables"]) == (
        second.key, "stream added", "silver.clicks",
    )  # fmt: skip
