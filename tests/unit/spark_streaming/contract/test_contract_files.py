"""Every mistake in a contract file is found when it is loaded, with its line and what to do."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from spark_streaming.contract.contract import Contract
from spark_streaming.contract.contract_files import (
    ContractFileError,
    Problem,
    file_name,
    find_files,
    read_file,
)
from spark_streaming.contract.toml_lines import key_lines
from spark_streaming.contract.types import Column
from spark_streaming.rules.contract_folder import ContractFolder, check_files
from spark_streaming.rules.rules import TableRules, bind
from tests.support.breach_cases import BREACHES, RULES

FILMS = Contract(
    "public",
    "films",
    (
        Column("id", "bigint", "int64", nullable=False),
        Column("title", "text", "text", toastable=True),
        Column("stars", "numeric(2,1)", "decimal", precision=2, scale=1),
        Column("seen", "date", "date"),
        Column("tags", "text[]", "array", element="text"),
    ),
    key=("id",),
    left_out=("label",),
)


BROKEN = Contract(
    "public",
    "broken",
    (
        Column("id", "integer", "int32", nullable=False),
        Column("v", "integer", "int32"),
        Column("w", "integer", "int32"),
        Column("s", "text", "text", toastable=True),
    ),
    key=("id",),
)


def write(folder: Path, text: str, name: str = "public.films.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems(folder: Path, text: str, contract: Contract = FILMS) -> list[Problem]:
    with pytest.raises(ContractFileError) as caught:
        bind(read_file(write(folder, text)), contract)
    return caught.value.problems


def rules(folder: Path, text: str) -> TableRules:
    return bind(read_file(write(folder, text)), FILMS)


CONDITION = "[[conditions]]\nname = 'a'\nvalue = 'sum(stars)'\n"
EXPECTATION = "[[expectations]]\nname = 'a'\ncondition = "


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (CONDITION, 1, "needs `min`, `max` or `max_fall`", ""),
        ("[[conditions]]\nname = 'a'\nmax = 1", 1, "`conditions.0.value` is missing", ""),
        (
            CONDITION + "max = 1\nover = '1h'",
            1,
            "`over` has an effect only together with `max_fall`",
            "",
        ),
        (CONDITION + "max = 1\nevery = '1s'", 5, "greater than or equal to 10", "it is '1s'"),
        (CONDITION + "max = 1\n" + CONDITION + "min = 1", 1, "two conditions are named `a`", ""),
        ("\nfreshnes = '5s'", 2, "unknown key `freshnes`", "did you mean `freshness`?"),
        ("freshness = '5 parsecs'", 1, "a duration is a number with a unit", ""),
        ("[columns.stars]\nmin = 1\nmaks = 2", 3, "unknown key `maks`", "did you mean `mask`?"),
        ("[columns]\nstars = { maks = 2 }", 2, "unknown key `maks`", "did you mean `mask`?"),
        (
            "[columns.stars]\n\nmask = 'hide'",
            3,
            "cannot be 'hide'",
            "'hash', 'redact' or 'partial'",
        ),
        ("[columns.stars]\nmin = [1]", 2, "numbers, text or dates are expected", "(list) here"),
        ("[columns.stars]\nnot_null = 'yes'", 2, "valid boolean", "'yes' (str)"),
        ("[columns.title]\nreferences = 'movies'", 2, "cannot be 'movies'", '"table.column"'),
        ("[[expectations]]\ncondition = 'id > 0'", 1, "`expectations.0.name` is missing", ""),
        (
            "[[expectations]]\nname = 'A b'\ncondition = 'id > 0'",
            2,
            "cannot be 'A b'",
            "lower-case",
        ),
        ("[evolution]\nadd_colum = 'evolve'", 2, "unknown key `add_colum`", "`add_column`"),
        ("[evolution]\nadd_column = 'ignore'", 2, "cannot be 'ignore'", "'evolve'"),
        ("[columns.stars\nmin = 1", 1, "not TOML", ""),
        ("[columns.star]\nmin = 1", 1, "no column `star`", "did you mean `stars`?"),
        ("[columns.label]\nnot_null = true", 1, "no column `label`", "it is generated"),
        ("[columns.stars]\nmin = 'b'", 2, "'b' is not a value of column `stars`", "write a number"),
        ("[columns.title]\nmax = 5", 2, "5 is not a value of column `title`", "CAST"),
        ("[columns.seen]\nmin = '2026-01-01'", 2, "not a value of column `seen` (date)", ""),
        ("[columns.stars]\nnot_empty = true", 2, "`stars` cannot be empty", "not_null"),
        ("[columns.stars]\nempty = 'null'", 2, "`stars` is no text", ""),
        ("[columns.stars]\nmask = 'hash'", 2, "`hash` is for texts", "redact"),
        ("[columns.id]\nmask = 'redact'", 2, "is part of the key", "hash"),
        ("[columns.title]\nunique = true\nmask = 'partial'", 3, "hides differences", "hash"),
        ("[columns.tags]\nunique = true", 1, "cannot look up column `tags`", ""),
        ("[[unique]]\ncolumns = ['title', 'sen']", 2, "no column `sen`", "did you mean `seen`?"),
        (
            EXPECTATION + "'''\nstar > 1'''",
            3,
            "condition `star > 1`: there is no column `star`",
            "did you mean `stars`?",
        ),
        (EXPECTATION + "'stars >'", 3, "it is not SQL", ""),
        (EXPECTATION + "'stars + 1'", 3, "not true or false", "compare"),
        (EXPECTATION + "'max(id) > 1'", 3, "aggregates", ""),
        (EXPECTATION + "'id in (select 1)'", 3, "it holds a subquery", "references"),
        (
            "[columns.id]\nnot_null = true\n[[expectations]]\nname = 'id_not_null'\ncondition = 'id > 1'",
            3,
            "two rules are named `id_not_null`",
            "another name",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_a_hint(
    tmp_path: Path, text: str, line: int, message: str, hint: str
) -> None:
    [found] = problems(tmp_path, text)
    assert found.file.name == "public.films.toml"
    assert found.line == line
    assert message in found.message
    assert hint in found.hint
    assert str(found).startswith(f"{found.file}:{line}: ")


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "[columns.stars]\nmin = 'b'\n[columns.nope]\nnot_null = true")
    assert [problem.line for problem in found] == [2, 3]


def test_uniqueness_in_a_table_without_a_key_is_a_mistake(tmp_path: Path) -> None:
    bag = Contract("public", "films", FILMS.columns, key=(), replica_identity="full")
    [found] = problems(tmp_path, "[columns.title]\nunique = true", bag)
    assert "has no key" in found.message


def test_shorthands_become_conditions_with_names_of_their_own(tmp_path: Path) -> None:
    found = rules(
        tmp_path,
        """
        freshness = "500ms"
        [columns.stars]
        min = 0.5
        max = 5
        action = "warn"
        [columns.title]
        not_null = true
        not_empty = true
        values = ["it's", "b"]
        unique = true
        references = "titles.name"
        [columns.seen]
        min = 2020-01-01
        [columns.tags]
        not_empty = true
        [[unique]]
        columns = ["title", "seen"]
        action = "fail"
        """,
    )
    assert {rule.name: (rule.action, rule.condition) for rule in found.rules} == {
        "stars_range": ("warn", '"stars" >= 0.5 AND "stars" <= 5'),
        "title_not_null": ("quarantine", '"title" IS NOT NULL'),
        "title_not_empty": ("quarantine", "\"title\" <> ''"),
        "title_values": ("quarantine", "\"title\" IN ('it''s', 'b')"),
        "seen_range": ("quarantine", "\"seen\" >= DATE '2020-01-01'"),
        "tags_not_empty": ("quarantine", 'len("tags") > 0'),
    }
    assert found.actions()["title_unique"] == found.actions()["title_references"] == "warn"
    assert found.actions()["title_seen_unique"] == "fail"
    assert (found.references[0].schema, found.references[0].target) == ("public", "name")
    assert found.freshness_s == 0.5
    assert pickle.loads(pickle.dumps(found)) == found


def test_lines_are_found_behind_arrays_and_texts_of_several_lines() -> None:
    text = 'a = [\n "x]",\n [1],\n]\nb = """\nc = 1\n[no]\n"""\n[t."q.r"]\nd.e = 1 # "'
    lines = key_lines(text)
    assert lines[("b",)] == 5
    assert ("c",) not in lines and ("no",) not in lines
    assert lines[("t", "q.r")] == 9
    assert lines[("t", "q.r", "d", "e")] == 10


def test_of_two_files_of_a_table_the_first_folders_counts(tmp_path: Path) -> None:
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    for folder in (mine, shipped):
        folder.mkdir()
        write(folder, "")
    write(shipped, "", "public.other.toml")
    write(shipped, "", "README.toml")
    found, wrong = find_files([mine, tmp_path / "absent", shipped])
    assert found == {
        ("public", "films"): mine / "public.films.toml",
        ("public", "other"): shipped / "public.other.toml",
    }
    assert ["names no table" in problem.message for problem in wrong] == [True]


def test_strange_table_names_make_file_names_that_are_read_back(tmp_path: Path) -> None:
    name = file_name("My.Schema", "a/b ü")
    assert "/" not in name
    found, _ = find_files([write(tmp_path, "", name).parent])
    assert list(found) == [("My.Schema", "a/b ü")]


def test_a_changed_file_is_read_again_and_a_removed_one_forgotten(tmp_path: Path) -> None:
    now = [0.0]
    folder = ContractFolder([tmp_path], clock=lambda: now[0])
    assert folder.rules_of(FILMS).rules == ()
    path = write(tmp_path, "[columns.stars]\nmin = 1")
    assert folder.rules_of(FILMS).rules == (), "the folder is not looked at every time"
    now[0] += 10
    old = folder.stamp("public", "films")
    assert [rule.condition for rule in folder.rules_of(FILMS).rules] == ['"stars" >= 1']
    write(tmp_path, "[columns.stars]\nmin = 22")
    now[0] += 10
    assert folder.stamp("public", "films") != old
    assert [rule.condition for rule in folder.rules_of(FILMS).rules] == ['"stars" >= 22']
    write(tmp_path, "[columns.nope]\nmin = 22")
    now[0] += 10
    with pytest.raises(ContractFileError, match="no column `nope`"):
        folder.rules_of(FILMS)
    path.unlink()
    now[0] += 10
    assert folder.rules_of(FILMS).rules == ()


def test_hashing_without_a_secret_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "[columns.title]\nmask = 'hash'")
    with pytest.raises(ContractFileError, match=r"toml:2: there is no secret for hashing"):
        ContractFolder([tmp_path]).rules_of(FILMS)
    assert ContractFolder([tmp_path], b"key").rules_of(FILMS).masks == {"title": "hash"}


def test_the_check_names_references_to_what_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, "[columns.title]\nreferences = 'films.name'")
    write(tmp_path, "[columns.id]\nreferences = 'gone.id'", "public.films2.toml")
    write(tmp_path, "", "public.nowhere.toml")
    tables = {"films": FILMS, "films2": FILMS}
    right, found = check_files([tmp_path], lambda _, table: tables.get(table))
    assert right == []
    assert [(p.file.name, p.line) for p in found] == [
        ("public.films.toml", 2),
        ("public.films2.toml", 2),
        ("public.nowhere.toml", 1),
    ]


def test_columns_are_text_by_choice_where_their_type_has_values_that_silver_has_not(
    tmp_path: Path,
) -> None:
    file = read_file(
        write(tmp_path, '[columns.stars]\ntype = "text"\nmin = "0"\n[columns.tags]\ntype = "text"')
    )
    chosen = FILMS.with_texts(file.content.texts)
    assert [c.kind for c in chosen.columns] == ["int64", "text", "text_as_is", "date", "text_as_is"]
    # Rules get the text, whether they are checked against the table or against silver's row.
    assert bind(file, FILMS) == bind(file, chosen)
    assert chosen.with_texts(file.content.texts) is chosen
    assert chosen.fingerprint() != FILMS.fingerprint()


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        (Column("id", "bigint", "int64", nullable=False), "holds every value"),
        (Column("id", "real[]", "array", element="float32"), "stay lists"),
    ],
)
def test_what_cannot_be_text_by_choice_is_a_mistake(
    tmp_path: Path, column: Column, hint: str
) -> None:
    contract = replace(FILMS, columns=(column, *FILMS.columns[1:]))
    [problem] = problems(tmp_path, '[columns.id]\ntype = "text"', contract)
    assert (problem.line, problem.message) == (
        2,
        f"column `id` ({column.pg_type}) cannot be carried as text",
    )
    assert hint in problem.hint


def test_the_choice_of_text_stays_while_its_file_is_wrong(tmp_path: Path) -> None:
    now = [0.0]
    folder = ContractFolder([tmp_path], clock=lambda: now[0])
    seen = []
    for text in ('[columns.seen]\ntype = "text"', "[columns", "[columns.seen]"):
        write(tmp_path, text)
        now[0] += 100
        seen.append(folder.texts_of("public", "films"))
    assert seen == [{"seen"}, {"seen"}, frozenset()]


def test_each_kind_of_rule_has_a_table_on_the_real_chain_with_each_action(tmp_path: Path) -> None:
    for breach in BREACHES:
        path = tmp_path / f"public.{breach.table}.toml"
        path.write_text(breach.contract_file())
        bound = bind(read_file(path), BROKEN)
        assert bound.actions() == {breach.rule.name: breach.action}
    assert len(BREACHES) == len(RULES) * 3


def test_a_file_says_what_a_table_means_and_whose_it_is(tmp_path: Path) -> None:
    text = 'owner = "lending"\ndomain = "films"\ntags = ["core"]\n[columns.title]\n'
    content = read_file(write(tmp_path, text + 'classification = "personal"\n')).content
    assert (content.owner, content.domain, content.tags) == ("lending", "films", ["core"])
    assert content.columns["title"].classification == "personal"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ('ovner = "x"', 1, "unknown key `ovner`", "did you mean `owner`?"),
        ('\ntags = "core"', 2, "`tags`:", "it is 'core' (str) here"),
        (
            '[columns.title]\nclassification = "secret"',
            2,
            "`columns.title.classification` cannot be 'secret'",
            "'public', 'internal', 'personal' or 'sensitive'",
        ),
        ('[columns.title]\nclassifcation = "personal"', 2, "unknown key", "`classification`"),
    ],
)
def test_a_wrong_meaning_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, message: str, hint: str
) -> None:
    [problem] = problems(tmp_path, text)
    assert problem.line == line
    assert message in problem.message
    assert hint in problem.hint
