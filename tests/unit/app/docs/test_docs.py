"""The generated reference, and the hook that brings the folders' READMEs into the site."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
import typer

from app.docs import commands_page as commands
from app.docs import tables_page as tables
from app.docs.columns import COLUMNS
from app.docs.pages import PAGES, renew, stale
from app.docs.settings_page import environment_variables
from app.docs.site import brought_in, site_path, with_links_of_the_site
from app.errors import HeadwaterError
from tests.support.links import broken_links, links

ROOT = Path(__file__).resolve().parents[4]
THERE = {"README.md", "docs/types.md", "app/README.md", "app/page/pictures/edit.gif"}


def test_a_changed_page_is_stale_and_written_again(tmp_path: Path) -> None:
    assert set(renew(tmp_path)) >= set(PAGES)
    assert stale(tmp_path) == {}
    (tmp_path / "reference/settings.md").write_text("by hand\n")
    assert renew(tmp_path) == ["reference/settings.md"]
    assert stale(tmp_path) == {}


def test_every_command_has_a_chapter_and_its_options() -> None:
    text = commands.commands_page()
    assert "\n## quarantine replay\n" in text
    assert "(#quarantine-replay)" in text
    assert "| `--source SOURCE` |" in text
    assert "Usage:" not in text
    verify = text.split("\n## verify\n")[1].split("\n## ")[0]
    assert "```text\n0  " in verify  # the exit codes, a line each
    assert (
        verify.index("`--bronze`") < verify.index("**Examples**") < verify.index("**Exit codes**")
    )


def test_help_becomes_markdown_with_its_examples_as_listings() -> None:
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    def verb(count: int = typer.Option(3, "--count", help="How many <rows>.")) -> None:
        """Do it at once.

        A word on `a_b` and c_d, 1 < 2.

        ./headwater verb --count 2
        """

    [text, listing, *_] = commands._text(verb.__doc__ or "").split("\n\n")[1:]
    assert text == "A word on `a_b` and c\\_d, 1 &lt; 2."
    assert listing == "```text\n./headwater verb --count 2\n```"


def test_each_environment_variable_of_the_reference_is_read_somewhere() -> None:
    programs = [ROOT / "headwater", *(ROOT / "app").rglob("*.py")]
    text = "".join(path.read_text() for path in programs if path.parent != ROOT / "app" / "docs")
    assert [name for name in environment_variables() if name not in text] == []


def test_a_column_without_a_description_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wider = tables.SCHEMAS["ops.expectations"].append(pa.field("colour", pa.string()))
    monkeypatch.setitem(tables.SCHEMAS, "ops.expectations", wider)
    with pytest.raises(HeadwaterError, match=r"column colour of ops\.expectations has no descr"):
        tables.tables_page()


def test_a_description_without_a_column_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS["ops.expectations"], "colour", "Red.")
    with pytest.raises(HeadwaterError, match="describes colour"):
        tables.tables_page()


def test_views_are_described_by_their_own_files() -> None:
    columns = dict(tables.view_columns(ROOT / "trino" / "views" / "top_customers.sql"))
    assert columns["country"] == "varchar, two letters"
    assert next(iter(columns)) == "rank"
    freshness = dict(tables.view_columns(ROOT / "trino" / "views" / "freshness.sql"))
    assert freshness["refusal"] == "varchar, why the table cannot be kept; NULL if it can"


@pytest.mark.parametrize(
    ("page", "markdown", "of_the_site"),
    [
        ("README.md", "[a](docs/types.md#text)", "[a](types.md#text)"),
        ("docs/types.md", "[a](../app/README.md#b)", "[a](folders/app/README.md#b)"),
        ("README.md", "![x](app/page/pictures/edit.gif)", "![x](folders/app/page/pictures/edit.gif)"),
        ("app/README.md", "[a](../docs/types.md)", "[a](../../types.md)"),
        ("app/README.md", "[a](../README.md)", "[a](../../index.md)"),
        ("app/README.md", "[`a.py`](errors.py) and [y](#here)", "`a.py` and [y](#here)"),
        ("app/README.md", "[gone](gone.md)", "[gone](gone.md)"),
        ("app/README.md", "[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("docs/types.md", "`[a](gone.md)`", "`[a](gone.md)`"),
        ("docs/types.md", "```\n[a](gone.md)\n```", "```\n[a](gone.md)\n```"),
        ("docs/types.md", "[the app](../app/)", "[the app](folders/app/README.md)"),
    ],
)  # fmt: skip
def test_links_of_the_repository_are_turned_to_the_site(
    page: str, markdown: str, of_the_site: str
) -> None:
    assert with_links_of_the_site(markdown, page, THERE) == of_the_site


def test_the_site_has_every_document_and_the_readme_of_every_folder() -> None:
    found = set(brought_in())
    tracked = subprocess.run(
        ["git", "ls-files", "*README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert sorted(set(tracked) - found) == [
        "tests/unit/spark_streaming/events/recorded/README.md",  # says where its own files come from
    ]
    nav = (ROOT / "mkdocs.yml").read_text()
    written = [f"docs/{path.relative_to(ROOT / 'docs')}" for path in (ROOT / "docs").rglob("*.md")]
    pages = [page for page in (*found, *written) if page.endswith(".md")]
    assert [page for page in pages if site_path(page) not in nav] == []


def test_a_link_that_leads_nowhere_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# A `word` here\n\n## Twice\n\n## Twice\n")
    good = '[x](b.md#a-word-here) [y](b.md#twice-1) [z](https://example.org) <img src="b.md">'
    page = tmp_path / "a.md"
    page.write_text(f"{good}\n\n`[code](gone.md)`\n\n| [t](b.md) |\n|---|\n")
    assert broken_links(tmp_path, [page]) == []
    assert len(list(links(page))) == 5
    page.write_text('[x](gone.md) [y](b.md#twice-2) <a href="../up.md">u</a> [r](/b.md)')
    assert broken_links(tmp_path, [page]) == [
        "a.md: gone.md: no such file",
        "a.md: b.md#twice-2: no such heading",
        "a.md: ../up.md: no such file",
        "a.md: /b.md: it begins at a root, which no two sites share",
    ]
