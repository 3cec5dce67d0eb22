"""Preflight's findings as text for users, and as SQL for psql."""

from __future__ import annotations

from psycopg import sql

from app.source.detach import Plan, Step
from app.source.findings import LEFT_OUT, MISSING, NOTE, OK, Finding, Fix, by_hand, runnable
from app.source.preflight_report import entry_of, listed, meaning, sql_block

PUBLISH = runnable(sql.SQL("ALTER PUBLICATION p ADD TABLE {}").format(sql.Identifier("t")))
EVIL = 'table public.a"\nDROP TABLE users; \x1b[2J'


def table(name: str, *, status: str = LEFT_OUT) -> Finding:
    text = sql.SQL("ALTER PUBLICATION p ADD TABLE {}").format(sql.Identifier("public", name))
    return Finding(f"table public.{name}", status, "not in the publication", (runnable(text),))


def lines(*findings: Finding, width: int | None = None) -> list[str]:
    return listed([entry_of(finding) for finding in findings], width)


def test_the_worst_comes_first_and_what_is_right_is_one_line() -> None:
    found = lines(
        Finding("version", OK, "15"), Finding("tls", NOTE, "none"), table("t"),
        Finding("wal_level", MISSING, "replica", (by_hand("ALTER SYSTEM x"), Fix("-- restart"))),
        Finding("table public.a", OK, "captured"), Finding("table public.b", OK, "captured"),
    )  # fmt: skip
    assert found == [
        "missing   wal_level: replica",
        "          do: by hand: ALTER SYSTEM x; restart",
        "left out  table public.t: not in the publication",
        '          do: run ALTER PUBLICATION p ADD TABLE "public"."t"',
        "note      tls: none",
        "ok        version, 2 tables",
    ]


def test_many_tables_of_which_the_same_is_said_are_one_entry() -> None:
    found = lines(*(table(f"t{n}") for n in range(9)), table("other", status=NOTE))
    assert found[0] == "left out  9 tables: not in the publication"
    assert found[1].strip() == "public.t0, public.t1, public.t2, public.t3, public.t4 and 4 more"
    assert found[3].startswith("note      table public.other")


def test_no_line_is_wider_than_the_terminal() -> None:
    long = Finding("table public.t", LEFT_OUT, "word " * 60, (PUBLISH,))
    assert max(map(len, lines(long, width=60))) <= 60
    assert len(lines(long)) == 2  # in a pipe each finding is one line


def test_a_name_that_holds_a_line_of_sql_stays_a_comment() -> None:
    block = sql_block(
        [Finding(EVIL, LEFT_OUT, EVIL, (PUBLISH, Fix(f"-- see {EVIL}"), by_hand(EVIL)))],
        whole=True,
    )
    run = [line for line in block.splitlines() if not line.startswith("--") and line.strip()]
    assert run == ["SET lock_timeout = '5s';", 'ALTER PUBLICATION p ADD TABLE "t";']
    assert "\x1b" not in "".join(lines(Finding(EVIL, NOTE, EVIL)))
    step = Step(EVIL, (sql.SQL("SELECT 1").format(),))
    assert Plan((step,), ()).block(allowed=True).splitlines()[1:] == ["SELECT 1;"]


def test_the_block_is_empty_or_comments_where_nothing_is_to_be_run() -> None:
    assert sql_block([Finding("version", OK, "15")], whole=True) == ""
    hand = sql_block([Finding("keep", NOTE, "none", (by_hand("ALTER SYSTEM x"),))], whole=True)
    assert all(line.startswith("--") for line in hand.splitlines())


def test_a_long_function_is_a_line_in_what_is_shown_and_whole_in_what_is_run() -> None:
    body = runnable(sql.SQL("CREATE FUNCTION f\n" + "line\n" * 40).format())
    finding = Finding("definitions", NOTE, "not noted", (body,), "a trigger that notes changes")
    shown = sql_block([finding], whole=False)
    assert "a trigger that notes changes" in shown and "line\nline" not in shown
    assert "line\nline" in sql_block([finding], whole=True)


def test_what_it_means_is_said_last() -> None:
    assert meaning([], command="x") == ["There is no table yet; new tables will be captured."]
    said = meaning([table("t"), Finding("role r", MISSING, "not there", (PUBLISH,))], command="cmd")
    assert said[0] == "Nothing can be captured until the missing points are fixed (1)."
    assert "Left out until the SQL is run: 1 table." in said
    assert said[-1].startswith("To run the SQL: cmd --apply")
    ready = meaning([Finding("table public.t", OK, "captured")], command="cmd")
    assert ready == ["1 of 1 tables can be captured as they are."]
