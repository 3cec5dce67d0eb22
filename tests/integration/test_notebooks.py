"""Notebooks and tasks in SQL on a running stack: tokens, the shipped notebooks from top to bottom, killed attempts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import requests
from deltalake import write_deltalake

from app.jobs.kinds.notebook_task import run_notebook
from app.notebooks.marimo_program import prepared_environment
from app.notebooks.notebook_file import convert_notebook, notebook_mistakes
from app.notebooks.shipped_copies import SHIPPED
from spark_streaming.storage.lake import Lake
from tests.support.job_files import NOT_RUN
from tests.support.long_query import await_running, long_query, states_of
from tests.support.planted_history import END, planted_history
from tests.support.stack import ROOT, Stack, fresh_stack
from tests.support.waiting import until

ASKED_S = 30
MARIMO = "app"  # the name in the decorators of cells
FAILING = """
import marimo

app = marimo.App()


@CELL
def _():
    import marimo as mo

    from app.notebooks.lake_client import sql

    return mo, sql


@CELL
def wrong(mo, sql):
    print("asked for", mo.cli_args().get("table"))
    sql("SELECT * FROM silver." + mo.cli_args().get("table"))
    return


@CELL
def behind(mo):
    mo.md("This one runs all the same")
    return
""".replace("CELL", f"{MARIMO}.cell")


@pytest.fixture(scope="module")
def server() -> Iterator[Stack]:
    """The service `notebooks` with Trino, the registrar and the object store; silver has tables."""
    with fresh_stack() as stack:
        stack.up("--only", "notebooks")
        history = planted_history(300).tables
        for name, rows in history.items():
            write(stack, f"silver/{name}", with_places(rows))
        write(stack, "silver/orders", with_places(history["orders"].slice(0, 100), lsn=9), "append")
        until(
            lambda: stack.query("SHOW TABLES FROM silver"),
            lambda found: {(name,) for name in history} <= set(found),
            within_s=120,
            what="the tables in Trino",
        )
        yield stack


@pytest.fixture(scope="module")
def address(server: Stack) -> str:
    """The service's address with its token."""
    return server.urls()["notebooks"]


@pytest.fixture
def connected(server: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Give this process the variables of the service and of tasks."""
    for name, value in server.settings.environment(["trino", "object-store"]).items():
        monkeypatch.setenv(name, value)
    return server


def with_places(rows: pa.Table, lsn: int = 7) -> pa.Table:
    """Add silver's own columns to rows."""
    at = pa.array([END] * len(rows), pa.timestamp("us", "UTC"))
    places = pa.array([lsn] * len(rows), pa.int64())
    return (
        rows.append_column("_lsn", places)
        .append_column("_committed_at", at)
        .append_column("_merged_at", at)
    )


def write(stack: Stack, path: str, rows: pa.Table, mode: Any = "overwrite") -> None:
    lake = Lake(stack.settings.store)
    write_deltalake(lake.url(path), rows, mode=mode, storage_options=lake.storage_options())


def await_in_ml(stack: Stack, *names: str) -> None:
    until(
        lambda: stack.query("SHOW TABLES FROM ml"),
        lambda found: {(name,) for name in names} <= set(found),
        within_s=120,
        what=f"{names} in ml",
    )


def run(notebook: Path, folder: Path, *arguments: str) -> tuple[str, str]:
    """Run a notebook. Returns: its failure, and its page."""
    page, cache = folder / "page.html", folder.parent / "cache"  # the same for all tests
    failure = run_notebook(notebook, page, arguments, prepared_environment(), cache)
    return failure, page.read_text()


def test_the_service_answers_with_its_token_only(server: Stack, address: str) -> None:
    page, _, token = address.partition("/?access_token=")
    assert len(token) == 32
    assert server.status()["notebooks"]["state"] == "ready"
    refused = [
        requests.get(f"{page}/api/status", timeout=ASKED_S).status_code,
        requests.get(f"{page}/api/status?access_token=wrong", timeout=ASKED_S).status_code,
        requests.post(f"{page}/api/home/running_notebooks", timeout=ASKED_S).status_code,
    ]
    assert refused == [401, 401, 401]
    assert requests.get(page, timeout=ASKED_S).url.startswith(f"{page}/auth/login")
    with requests.Session() as session:
        seen = session.get(address, timeout=ASKED_S)
        assert (seen.status_code, seen.url) == (200, f"{page}/")
        assert token not in seen.text
        assert session.get(f"{page}/api/status", timeout=ASKED_S).status_code == 200


def test_the_token_is_on_no_command_line_and_in_no_log(server: Stack, address: str) -> None:
    token = address.rpartition("=")[2]
    process = psutil.Process(server.observed("notebooks").pid)
    assert token not in " ".join(process.cmdline())
    assert [one.laddr.ip for one in process.net_connections() if one.status == "LISTEN"] == [
        "127.0.0.1"
    ]
    requests.get(address, timeout=ASKED_S)
    assert token not in server.run("logs", "notebooks").stdout


def test_the_shipped_ones_lie_in_the_homes_folder(server: Stack, address: str) -> None:
    put = {path.name: path.read_text() for path in (server.home / "notebooks").glob("*.py")}
    assert put == {path.name: path.read_text() for path in SHIPPED.glob("*.py")}


def test_silver_by_sql_shows_tables_rows_and_a_chart(connected: Stack, tmp_path: Path) -> None:
    failure, page = run(SHIPPED / "silver_by_sql.py", tmp_path, "--table", "payments")
    assert failure == ""
    for part in ("payments", "invoices", "<td>orders</td>", 'src="data:image/png'):
        assert part in page
    assert "Traceback" not in page


def test_time_travel_shows_a_table_as_it_was(connected: Stack, tmp_path: Path) -> None:
    [(rows,)] = connected.query("SELECT count(*) FROM silver.orders")
    failure, page = run(SHIPPED / "time_travel.py", tmp_path, "--table", "orders")
    assert failure == ""
    # The first version lacks the rows of the second commit; `_lsn` shows which came later.
    for version, count, lsn in ((0, rows - 100, 7), (1, rows, 9)):
        row = "".join(f"<td>{value}</td>" for value in (version, count, lsn))
        assert row in page
    assert "Traceback" not in page


def test_prices_then_says_how_a_history_is_asked_for_where_there_is_none(
    connected: Stack, tmp_path: Path
) -> None:
    failure, page = run(SHIPPED / "prices_then.py", tmp_path)
    assert failure == ""
    assert "There is no <code>history.movies</code> yet" in page
    assert "Traceback" not in page


@pytest.mark.parametrize("name", ["recommender_errors", "churn_chances"])
def test_a_notebook_says_where_its_model_has_not_run(
    connected: Stack, tmp_path: Path, name: str
) -> None:
    failure, page = run(SHIPPED / f"{name}.py", tmp_path)
    assert failure == ""
    assert NOT_RUN in page
    assert "Traceback" not in page


def test_the_recommenders_errors_are_drawn(connected: Stack, tmp_path: Path) -> None:
    at = pa.array([END] * 4, pa.timestamp("us", "UTC"))
    quality = {
        "measured_at": at, "part": ["stars", "stars", "lists", "lists"],
        "method": ["als", "global mean", "als", "most popular"],
        "measure": ["rmse", "rmse", "ndcg_at_10", "ndcg_at_10"],
        "value": [0.5, 0.9, 0.28, 0.17], "options": ["rank 8", None, None, None], "seed": [1] * 4,
    }  # fmt: skip
    write(connected, "ml/recommend_quality", pa.table(quality))
    listed = {"customer_id": [1, 2], "movie_id": [7, 7], "rank": [1, 1], "predicted_stars": [4.5, 3.0], "method": ["als", "als"]}  # fmt: skip
    write(connected, "ml/recommended_movies", pa.table(listed))
    write(connected, "silver/ratings", with_places(pa.table({"customer_id": [1], "movie_id": [7], "stars": [4]})))  # fmt: skip
    await_in_ml(connected, "recommend_quality", "recommended_movies")
    until(lambda: connected.query("SELECT * FROM silver.ratings"), within_s=120, what="ratings")
    failure, page = run(SHIPPED / "recommender_errors.py", tmp_path)
    assert failure == ""
    assert "off by 0.50 stars" in page
    assert page.count('src="data:image/png') == 3


def test_churn_is_tested_again_and_its_calibration_drawn(connected: Stack, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.models.risks.churn"], env=connected.environment, cwd=ROOT,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    await_in_ml(connected, "churn", "churn_quality")
    failure, page = run(SHIPPED / "churn_chances.py", tmp_path)
    assert failure == ""
    assert "of them ordered nothing" in page
    assert page.count('src="data:image/png') == 3


def test_a_failing_cell_is_the_reason_and_the_page_is_kept(
    connected: Stack, tmp_path: Path
) -> None:
    notebook = tmp_path / "failing.py"
    notebook.write_text(FAILING)
    failure, page = run(notebook, tmp_path, "--table", "nobody_has_it")
    assert failure.startswith("cell `wrong`: app.errors.HeadwaterError: Trino could not run")
    assert "TABLE_NOT_FOUND" in failure
    assert "asked for nobody_has_it" in page
    assert "This one runs all the same" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failing.py", "page.html"]


def test_a_jupyter_notebook_is_converted_and_runs(connected: Stack, tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Sales\n"]},
        {"cell_type": "code", "metadata": {}, "execution_count": 1, "outputs": [], "source": [
            "from app.notebooks.lake_client import sql\n", "sql('SELECT 40 + 2 AS answer')",
        ]},
        {"cell_type": "code", "metadata": {}, "execution_count": 1, "outputs": [], "source": ["%time 1"]},
    ]  # fmt: skip
    source = tmp_path / "sales.ipynb"
    source.write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    )
    said = convert_notebook(source, tmp_path / "sales.py")
    assert said == "converted sales.ipynb, in which 1 magic commands are now comments"
    assert notebook_mistakes(tmp_path / "sales.py") == []
    failure, page = run(tmp_path / "sales.py", tmp_path)
    assert failure == ""
    assert "<h1" in page and "Sales" in page
    assert "<td>42</td>" in page


def test_marimo_sees_the_main_environments_packages(tmp_path: Path) -> None:
    notebook = tmp_path / "packages.py"
    notebook.write_text(
        f"import marimo\napp = marimo.App()\n\n\n@{MARIMO}.cell\ndef _():\n"
        "    import sys\n    import deltalake, pyspark\n"
        "    print(sys.prefix in pyspark.__file__, pyspark.__version__)\n    return\n"
    )
    failure, page = run(notebook, tmp_path)
    assert failure == ""
    assert "False 4.2.0" in page
    assert not (tmp_path / "__marimo__").exists()


def test_a_task_ends_the_query_that_its_killed_attempt_left_running(
    server: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = tmp_path / "long.sql", tmp_path / "short.sql"
    long.write_text(f"CREATE TABLE lake.ml.left_behind AS {long_query('left_running')}")
    short.write_text("SELECT 1 AS answer")
    monkeypatch.setenv("HEADWATER_HOME", str(server.home))
    monkeypatch.setenv("HEADWATER_JOB_TASK", "own.count")
    monkeypatch.setenv("HEADWATER_JOB_RUN_FOLDER", str(tmp_path / "runs" / "1"))
    task = [sys.executable, "-m", "app.jobs.kinds.sql_task"]
    killed = subprocess.Popen([*task, str(long)], cwd=ROOT)
    try:
        await_running(server, "left_running")
    finally:
        killed.kill()
        killed.wait()
    assert [state for state, _ in states_of(server, "left_running")] == ["RUNNING"]
    # Another task leaves it alone.
    other = {**os.environ, "HEADWATER_JOB_TASK": "own.other"}
    subprocess.run([*task, str(short)], cwd=ROOT, env=other, check=True, timeout=120)
    assert [state for state, _ in states_of(server, "left_running")] == ["RUNNING"]
    subprocess.run([*task, str(short)], cwd=ROOT, check=True, timeout=120)
    assert states_of(server, "left_running") == [("FAILED", "ADMINISTRATIVELY_KILLED")]
