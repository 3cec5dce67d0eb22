"""Jobs on a real Dagster: they run, fail, time out, or are cancelled or killed; each run ends with a reason."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from app.notebooks.shipped_copies import SHIPPED
from spark_streaming.storage.lake import Lake
from tests.support.job_files import CONTRACT, COUNT, FILES, LOOK, NOT_RUN, NOTEBOOKS, OF_MODELS
from tests.support.stack import UP_TIMEOUT_S, Stack, fresh_stack
from tests.support.waiting import until

SOON_S = 60.0
OVER = ("succeeded", "failed", "canceled")
OWN = """
[parameters]
least = 2

[tasks.count]
kind = "sql"
statement = "SELECT count(*) AS rows FROM (VALUES 1, 2, 3) AS numbers (number)"

[tasks.report]
kind = "python"
file = "report.py"
arguments = ["${least}"]
depends_on = ["count"]
when = "count.rows > 2"
writes = ["ml.report"]

[tasks.fails]
kind = "python"
file = "fails.py"
depends_on = ["report"]
retries = 1
retry_after = "1s"

[tasks.notice]
kind = "command"
arguments = ["job", "check"]
depends_on = ["fails"]
when = "any_failed"

[tasks.never]
kind = "command"
arguments = ["job", "check"]
depends_on = ["fails"]
"""
LISTS = """
[parameters]
least = 1

[tasks.make]
kind = "sql"
statement = '''
CREATE SCHEMA IF NOT EXISTS lake.ml;
CREATE TABLE IF NOT EXISTS lake.ml.lists (rank integer, title varchar);
DELETE FROM lake.ml.lists WHERE true;
INSERT INTO lake.ml.lists SELECT * FROM (VALUES (1, 'first'), (2, 'second')) AS t (rank, title)
  WHERE rank >= ${least}
'''
writes = ["ml.lists"]

[tasks.publish]
kind = "publish"
table = "ml.lists"
name = "lists"
key = ["rank"]
depends_on = ["make"]
"""
REPORT = """
import sys
from app.jobs.report import report
print("least", sys.argv[1])
report(rows_written=int(sys.argv[1]))
"""
ASLEEP = """
import subprocess
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture(scope="module")
def jobs() -> Iterator[Stack]:
    """A stack of silver, Trino and the services for jobs, with the jobs `own`, `asleep` and `late`."""
    with fresh_stack() as stack:
        only = ("jobs", "jobs-daemon", "tables", "silver", "capture")
        stack.run("up", "--jobs", "--only", *only, timeout_s=UP_TIMEOUT_S)
        files = stack.home / "mine"
        files.mkdir()
        (files / "report.py").write_text(REPORT)
        (files / "fails.py").write_text("raise ValueError('on purpose')")
        (files / "asleep.py").write_text(ASLEEP)
        asleep = '[tasks.sleep]\nkind = "python"\nfile = "asleep.py"\n'
        for name, text in (("own", OWN), ("asleep", asleep), ("late", asleep + 'timeout = "2s"')):
            (files / f"{name}.toml").write_text(text)
            stack.run("job", "create", str(files / f"{name}.toml"))
        yield stack


def is_gone(pid: int) -> bool:
    """Whether the process has ended; it may be a zombie, because some containers do not reap them."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def latest(stack: Stack, job: str) -> dict[str, Any]:
    return next(run for run in stack.answer("job", "status") if run["job"] == job)


def tasks(stack: Stack, run: str) -> dict[tuple[str, int], dict[str, Any]]:
    rows = stack.answer("job", "status", run)
    return {(row["task"], row["attempt"]): row for row in rows}


def asleep(stack: Stack) -> tuple[str, psutil.Process]:
    """A run of `asleep` whose task has begun, and the process that the task has started."""
    run = stack.answer("job", "run", "asleep")["run"]
    log = stack.home / "data" / "jobs-code" / "runs" / run / "sleep-1.log"
    until(log.exists, bool, within_s=SOON_S, what="the task's log")
    until(log.read_text, bool, within_s=SOON_S, what="the task's output")
    return run, psutil.Process(int(log.read_text()))


def await_end(stack: Stack, job: str, process: psutil.Process) -> dict[str, Any]:
    """The latest run of a job after its end; its process must have ended."""
    found = until(
        lambda: latest(stack, job),
        lambda run: run["state"] in OVER,
        within_s=SOON_S,
        what=f"the end of a run of {job}",
    )
    until(lambda: is_gone(process.pid), within_s=SOON_S, what="the end of its task")
    return found


def test_a_run_tells_of_each_task_how_it_ended_and_why(jobs: Stack) -> None:
    ended = jobs.answer("job", "run", "own", "--wait", "--set", "least=7", expect=1)
    reason = "fails: exit code 1: ValueError: on purpose"
    assert (ended["state"], ended["reason"]) == ("failed", reason)
    found = tasks(jobs, ended["run"])
    assert {key: row["state"] for key, row in found.items()} == {
        ("count", 1): "succeeded", ("report", 1): "succeeded", ("fails", 1): "failed",
        ("fails", 2): "failed", ("notice", 1): "succeeded", ("never", 1): "skipped",
    }  # fmt: skip
    assert found["count", 1]["values"] == {"rows": 3}
    assert found["report", 1]["rows_written"] == 7
    assert found["count", 1]["cpu_s"] > 0
    assert jobs.run("job", "logs", "own", "report").stdout == "least 7\n"
    jobs.await_answer(
        "SELECT task, attempt, state, rows_written, started_by FROM ops.job_runs "
        f"WHERE run_id = '{ended['run']}' ORDER BY task NULLS FIRST, attempt",
        [
            (None, None, "failed", 7, "hand"),
            ("count", 1, "succeeded", None, "hand"),
            ("fails", 1, "failed", None, "hand"),
            ("fails", 2, "failed", None, "hand"),
            ("never", 1, "skipped", None, "hand"),
            ("notice", 1, "succeeded", None, "hand"),
            ("report", 1, "succeeded", 7, "hand"),
        ],
    )


def test_a_task_is_killed_at_its_timeout(jobs: Stack) -> None:
    ended = jobs.answer("job", "run", "late", "--wait", expect=1)
    assert ended["reason"] == "sleep: it took longer than its timeout of 2 s"
    process = int(jobs.run("job", "logs", ended["run"], "sleep").stdout)
    until(lambda: is_gone(process), within_s=SOON_S, what="the end of what it had started")


def test_a_cancelled_run_ends_with_its_task_and_a_second_one_waits_for_it(jobs: Stack) -> None:
    first, process = asleep(jobs)
    second = jobs.answer("job", "run", "asleep")["run"]
    until(
        lambda: latest(jobs, "asleep"),
        lambda run: (run["run"], run["state"]) == (second, "queued"),
        within_s=SOON_S,
        what="the second run in the queue",
    )
    jobs.run("job", "cancel", second)
    jobs.run("job", "cancel", first)
    until(lambda: is_gone(process.pid), within_s=SOON_S, what="the end of its task")
    states = until(
        lambda: {run["run"]: run["state"] for run in jobs.answer("job", "status")},
        lambda found: found[first] in OVER and found[second] in OVER,
        within_s=SOON_S,
        what="both runs over",
    )
    assert (states[first], states[second]) == ("canceled", "canceled")


def kill_the_run(jobs: Stack, process: psutil.Process) -> None:
    """The process of Dagster's run: it started the attempt, which started the task."""
    attempt = process.parents()[1]
    os.kill(attempt.ppid(), signal.SIGKILL)


def kill_the_code_server(jobs: Stack, process: psutil.Process) -> None:
    jobs.kill("jobs-code")


@pytest.mark.parametrize("kill", [kill_the_run, kill_the_code_server])
def test_a_run_whose_process_is_killed_ends_failed(
    jobs: Stack, kill: Callable[[Stack, psutil.Process], None]
) -> None:
    run, process = asleep(jobs)
    kill(jobs, process)
    ended = await_end(jobs, "asleep", process)
    assert (ended["run"], ended["state"]) == (run, "failed")
    assert "or has ended" in ended["reason"]
    state = f"SELECT state FROM ops.job_runs WHERE run_id = '{run}' AND task IS NULL"
    jobs.await_answer(state, [("failed",)])


def test_a_run_outlives_the_daemon_and_the_next_is_started_by_the_new_one(jobs: Stack) -> None:
    run, process = asleep(jobs)
    jobs.kill("jobs-daemon")
    assert process.is_running()
    jobs.run("job", "cancel", run)
    assert await_end(jobs, "asleep", process)["state"] == "canceled"
    assert jobs.answer("job", "run", "late", "--wait", expect=1)["state"] == "failed"


def test_a_schedule_is_paused_and_resumed_and_a_job_deleted(jobs: Stack, tmp_path: Path) -> None:
    file = tmp_path / "yearly.toml"
    file.write_text('schedule = "0 3 1 1 *"\n[tasks.a]\nkind = "sql"\nstatement = "SELECT 1"\n')
    jobs.run("job", "create", str(file))

    def state() -> dict[str, str]:
        return {row["job"]: row["state"] for row in jobs.answer("job", "list")}

    assert (state()["yearly"], state()["own"]) == ("scheduled", "by hand")
    jobs.run("job", "pause", "yearly")
    assert state()["yearly"] == "paused"
    jobs.run("job", "resume", "yearly")
    assert state()["yearly"] == "scheduled"
    jobs.run("job", "delete", "yearly")
    assert "yearly" not in state()
    assert "no job `yearly`" in jobs.run("job", "run", "yearly", expect=1).stderr


def test_a_table_is_published_for_readers_and_an_empty_one_leaves_it(
    jobs: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "lists.toml"
    file.write_text(LISTS)
    jobs.run("job", "create", str(file))
    ended = jobs.answer("job", "run", "lists", "--wait", expect=None)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    [known] = jobs.answer("job", "published")
    at = jobs.answer("job", "reader")
    assert (known["name"], known["rows"], known["job"], known["run_id"]) == (
        "lists", 2, "lists", ended["run"],
    )  # fmt: skip
    assert known["delta_version"] is not None

    def rows() -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=at["host"], port=at["port"], dbname=at["database"], user=at["user"],
            password=at["password"],
        ) as connection:  # fmt: skip
            return connection.execute("SELECT * FROM lists ORDER BY rank").fetchall()

    assert rows() == [(1, "first"), (2, "second")]
    emptied = jobs.answer("job", "run", "lists", "--wait", "--set", "least=9", expect=1)
    assert "ml.lists is empty; `lists` stays as it was published" in emptied["reason"]
    assert rows() == [(1, "first"), (2, "second")]


def test_what_cannot_run_is_refused_before_it_is_queued(jobs: Stack, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('[tasks.a]\nkind = "notebook"\nfile = "a.py"\n')
    (tmp_path / "a.py").write_text("print(1)")
    refused = jobs.run("job", "create", str(file), expect=1).stderr
    assert "`a.py` is not a marimo notebook" in refused
    unknown = jobs.run("job", "run", "own", "--set", "most=1", expect=1).stderr
    assert "`most` is not a parameter of the job" in unknown


@pytest.mark.slow  # two minutes; test_notebooks.py runs notebooks
def test_a_notebook_is_converted_runs_and_leaves_its_page(jobs: Stack, tmp_path: Path) -> None:
    cell = {"cell_type": "code", "metadata": {}, "execution_count": 1, "outputs": []}
    cells = {"cells": [{**cell, "source": [LOOK]}], "metadata": {}, "nbformat": 4}
    (tmp_path / "look.ipynb").write_text(json.dumps({**cells, "nbformat_minor": 5}))
    (tmp_path / "notebooks.toml").write_text(NOTEBOOKS)
    said = jobs.run("job", "create", str(tmp_path / "notebooks.toml"), timeout_s=900).stderr
    assert f"converted look.ipynb: {jobs.home / 'jobs' / 'look.py'}" in said
    ended = jobs.answer("job", "run", "notebooks", "--wait", timeout_s=900, expect=None)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    found = tasks(jobs, ended["run"])
    assert found["look", 1]["values"] == {"rows": 3}
    assert "<td>3</td>" in Path(found["look", 1]["page"]).read_text()
    assert found["after", 1]["page"] is None
    wrong = ("job", "run", "notebooks", "--wait", "--set", "rows=-1")
    failed = jobs.answer(*wrong, timeout_s=900, expect=1)
    assert failed["reason"].startswith("look: exit code 1: cell `1`: app.errors.HeadwaterError")
    assert "could not run" in Path(tasks(jobs, failed["run"])["look", 1]["page"]).read_text()


@pytest.mark.slow  # over a minute; spark/test_load.py loads files
def test_files_are_loaded_once_and_spark_reads_them_beside_silver(
    jobs: Stack, tmp_path: Path
) -> None:
    jobs.await_tables("movies")
    dropped = jobs.home / "dropped"
    dropped.mkdir()
    (dropped / "monday.csv").write_text("movie_id\n1\n1\n2\nnone\n")
    old = time.time() - 60
    os.utime(dropped / "monday.csv", (old, old))
    (tmp_path / "visits.contract.toml").write_text(CONTRACT)
    (tmp_path / "count.py").write_text(COUNT)
    (tmp_path / "files.toml").write_text(FILES.replace("/none", str(dropped)))
    jobs.run("job", "create", str(tmp_path / "files.toml"))
    ended = jobs.answer("job", "run", "files", "--wait", timeout_s=600, expect=None)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    visited = 'SELECT movie_id, "count" FROM ml.visited ORDER BY 1'
    until(
        lambda: jobs.query(visited), lambda rows: rows == [(1, 2), (2, 1)],
        within_s=SOON_S, what=visited,
    )  # fmt: skip
    rejected = jobs.query("SELECT file, line, raw FROM files.rejected")
    assert rejected == [("monday.csv", 4, "none")]
    # There is no new file: the file is not loaded again, and Spark has nothing to do.
    again = jobs.answer("job", "run", "files", "--wait", timeout_s=300, expect=None)
    assert (again["state"], again["reason"]) == ("succeeded", "")
    assert jobs.query("SELECT count(*) FROM files.visits") == [(3,)]


def test_tables_of_jobs_are_in_ml_beside_what_is_made_there_by_sql(jobs: Stack) -> None:
    lake = Lake(jobs.settings.store)

    def write(name: str) -> None:
        rows = pa.table({"id": [1]})
        write_deltalake(lake.url(f"ml/{name}"), rows, storage_options=lake.storage_options())

    def await_in_ml(*names: str, gone: str = "") -> None:
        until(
            lambda: {name for (name,) in jobs.query("SHOW TABLES FROM ml")},
            lambda found: found >= set(names) and gone not in found,
            within_s=SOON_S,
            what=f"{names} in ml, without {gone!r}",
        )

    write("best")
    await_in_ml("best")
    jobs.query("CREATE TABLE lake.ml.own AS SELECT id FROM ml.best")
    jobs.query("CREATE VIEW lake.ml.seen AS SELECT id FROM ml.own")
    jobs.kill("tables")  # the next one compares everything
    write("later")
    await_in_ml("later")
    lake.filesystem().delete_dir("ml/best")
    await_in_ml("later", "own", "seen", gone="best")
    assert jobs.query("SELECT id FROM ml.seen") == [(1,)]


@pytest.mark.slow  # two minutes; integration/test_publication.py publishes lists
def test_jobs_of_the_demo_store_publish_lists_that_reports_show(jobs: Stack) -> None:
    jobs.await_tables("ratings", "movies", "orders", "order_lines", "customers")
    listed = {row["job"]: row["state"] for row in jobs.answer("job", "list")}
    assert (listed["recommend"], listed["top_movies"]) == ("scheduled", "scheduled")
    for job in ("top_movies", "recommend"):
        ended = jobs.answer("job", "run", job, "--wait", timeout_s=900, expect=None)
        assert (ended["state"], ended["reason"]) == ("succeeded", "")
    published = {row["name"]: row["rows"] for row in jobs.answer("job", "published")}
    for name in ("top_movies", "recommended_movies", "recommended_customers"):
        assert jobs.query(f"SELECT count(*) FROM reports.{name}") == [(published[name],)]
    # A list has ten movies, none of which its customer has rated.
    first = "SELECT min(customer_id) FROM silver.ratings"
    of_one = f"SELECT movie_id FROM reports.recommended_movies WHERE customer_id = ({first})"
    seen = f"SELECT movie_id FROM silver.ratings WHERE customer_id = ({first})"
    assert len(jobs.query(of_one)) == 10
    assert jobs.query(f"{of_one} INTERSECT {seen}") == []
    refused = jobs.run("job", "delete", "recommend", expect=1).stderr
    assert "comes with the demo store" in refused


@pytest.mark.slow  # four models and two notebooks take some minutes
def test_weekly_models_score_every_customer_and_notebooks_show_what_models_wrote(
    jobs: Stack,
) -> None:
    jobs.await_tables("ratings", "movies", "orders", "order_lines", "customers")
    assert jobs.answer("job", "run", "recommend", "--wait", timeout_s=900)["state"] == "succeeded"
    # A store that has not grown has few unpaid bills; the job skips the steps that need more.
    weekly = {
        job: jobs.answer("job", "run", job, "--wait", timeout_s=600, expect=None)
        for job in ("churn", "default_risk")
    }
    assert {(run["state"], run["reason"]) for run in weekly.values()} == {("succeeded", "")}
    [(scored, least, most)] = jobs.query(
        "SELECT count(*), min(chance), max(chance) FROM reports.churn"
    )
    assert scored == jobs.query("SELECT count(DISTINCT customer_id) FROM silver.orders")[0][0]
    assert 0 < least < most < 1
    (jobs.home / "mine" / "of_models.toml").write_text(OF_MODELS)
    for path in SHIPPED.glob("*.py"):
        (jobs.home / "mine" / path.name).write_text(path.read_text())
    jobs.run("job", "create", str(jobs.home / "mine" / "of_models.toml"))
    ended = jobs.answer("job", "run", "of_models", "--wait", timeout_s=1_800, expect=None)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    for key, row in tasks(jobs, ended["run"]).items():
        page = Path(row["page"]).read_text()
        assert page.count('src="data:image/png') >= 2, key
        assert NOT_RUN not in page
