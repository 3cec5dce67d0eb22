"""The cost of jobs and models at rest and at work, beside the stream, and the quality of the models.

HEADWATER_BENCH_RATINGS and HEADWATER_BENCH_MOST_RATINGS make the store smaller.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, create_engine

from app.jobs.kinds.spark_session import spark_session
from app.models.interactions import Ids, rated, seen
from app.models.lists_model import judge_lists
from app.models.risks.churn import CHURN
from app.models.risks.default_risk import DEFAULT_RISK
from app.models.risks.order_history import order_history
from app.models.risks.risk_run import RiskModel, measured
from app.models.stars_model import judge_stars
from app.query.trino_connection import connect
from app.serving.serving_address import reader_dsn
from app.store.workload.load_tables import BenchWorkload
from tests.support.edit_probe import probe
from tests.support.measure import percentiles, report, watched
from tests.support.planted import planted
from tests.support.planted_history import planted_history
from tests.support.stack import ROOT, UP_TIMEOUT_S, Stack, fresh_stack

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.timeout(2 * 3600)  # the store grows meanwhile
RATINGS = int(os.environ.get("HEADWATER_BENCH_RATINGS") or 400_000)
MOST_RATINGS = int(os.environ.get("HEADWATER_BENCH_MOST_RATINGS") or 1_000_000)
SCHEDULER = ("serving-db", "jobs-code", "jobs-daemon", "jobs")
REST_S = 60.0
CHANGES_A_SECOND = 50
WARM_UP_S = 60.0
PROBES = 60
LISTS_READ = 2_000
GROW_TIMEOUT_S = 3_600
JOB_TIMEOUT_S = 1_800
NOTHING = '[tasks.nothing]\nkind = "python"\nfile = "nothing.py"\n'
NOBODY: tuple[Ids, Ids] = (np.empty(0, np.int64), np.empty(0, np.int64))
QUICK = '[tasks.quick]\nkind = "sql"\nstatement = "SELECT 1 AS one"\n'


@pytest.fixture(scope="module")
def jobs() -> Iterator[Stack]:
    """The whole stack with the services for jobs, and two jobs that do almost nothing."""
    with fresh_stack() as stack:
        stack.run("up", "--jobs", "--no-dashboards", timeout_s=UP_TIMEOUT_S)
        folder = stack.home / "mine"
        folder.mkdir()
        (folder / "nothing.py").write_text("")
        for name, text in (("nothing", NOTHING), ("quick", QUICK)):
            (folder / f"{name}.toml").write_text(text)
            stack.run("job", "create", str(folder / f"{name}.toml"))
        yield stack


@pytest.fixture(scope="module")
def grown(jobs: Stack) -> Stack:
    """The stack with RATINGS ratings and their customers' two years of orders, equal to the source."""
    grow(jobs, RATINGS, seed=1)
    return jobs


def grow(stack: Stack, ratings: int, seed: int) -> None:
    """Grow the store, and wait until silver has all of it."""
    truth = str(stack.home / f"truth-{seed}.json")
    words = ("store", "grow", "--ratings", str(ratings), "--seed", str(seed), "--truth", truth)
    began = time.monotonic()
    stack.run(*words, timeout_s=GROW_TIMEOUT_S)
    written_s = time.monotonic() - began
    stack.verify("ratings", "orders", "invoices", "payments", timeout_s=GROW_TIMEOUT_S)
    print(f"{ratings} ratings: written in {written_s:.0f} s, equal in silver after "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip


def test_the_scheduler_at_rest(jobs: Stack) -> None:
    jobs.run("job", "run", "nothing", "--wait")  # loads everything that is loaded at first use
    with watched(jobs, SCHEDULER) as resources:
        time.sleep(REST_S)  # the measured time
    figures = resources.as_dict()
    report(
        "models_scheduler",
        {"cores": round(sum(resources.cpu_s.values()) / REST_S, 4), "seconds": REST_S, **figures},
    )


def test_the_list_of_jobs(jobs: Stack) -> None:
    command = [str(ROOT / "headwater"), "job", "list"]
    seconds = []
    for _ in range(20):
        began = time.monotonic()
        ended = subprocess.run(command, env=jobs.environment, capture_output=True, check=True)
        seconds.append(time.monotonic() - began)
        assert b"recommend" in ended.stdout
    report("models_job_list", {"seconds": percentiles(seconds)})


@pytest.mark.parametrize("job", ["nothing", "quick"])
def test_a_run_whose_task_does_next_to_nothing(jobs: Stack, job: str) -> None:
    """The time from the command to its end, and Dagster's own time from the request to the run's end."""
    whole, inside = [], []
    for _ in range(10):
        began = time.monotonic()
        ended = jobs.answer("job", "run", job, "--wait")
        whole.append(time.monotonic() - began)
        assert ended["state"] == "succeeded"
        inside.append(ended["seconds"])
    report(
        f"models_overhead_{job}",
        {"command_s": percentiles(whole), "run_s": percentiles(inside)},
    )


@contextmanager
def changing(stack: Stack) -> Iterator[Engine]:
    """Make CHANGES_A_SECOND changes a second in a separate table, until the end."""
    dsn = stack.settings.source_dsn.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(dsn)
    load = BenchWorkload(engine, tables=1, rate=CHANGES_A_SECOND, rows=2_000)
    load.create()
    [table] = [table.name for table in load.tables]
    stack.await_tables(table)
    stop = threading.Event()
    runner = threading.Thread(target=load.run, kwargs={"stop": stop}, daemon=True)
    runner.start()
    try:
        yield engine
    finally:
        stop.set()
        runner.join(timeout=30)
        stack.verify(table)
        engine.dispose()


def run_of(stack: Stack, job: str) -> dict[str, Any]:
    """Run a job, which must succeed. Returns: its seconds, and the peak memory of each task."""
    ended = stack.answer("job", "run", job, "--wait", timeout_s=JOB_TIMEOUT_S, expect=None)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    tasks = stack.answer("job", "status", ended["run"])
    memory = {row["task"]: row["memory_mb"] for row in tasks}
    cpu = {row["task"]: row["cpu_s"] for row in tasks}
    values = next(row["values"] for row in tasks if row["task"] in ("learn", "rank"))
    return {"seconds": ended["seconds"], "memory_mb": memory, "cpu_s": cpu, "reported": values}


def same_rows(stack: Stack, name: str) -> int:
    """Check that the published table equals the lake's, row by row. Returns: the number of rows."""
    with psycopg.connect(reader_dsn(stack.settings)) as connection:
        served = connection.execute(f"SELECT * FROM {name}".encode()).fetchall()
    lake = stack.query(f"SELECT * FROM ml.{name}")
    assert sorted(served, key=repr) == sorted(lake, key=repr) and lake
    return len(lake)


def test_recommend_beside_the_stream(grown: Stack) -> None:
    with changing(grown) as engine, closing(connect(grown.settings.trino_url)) as trino:
        warm_until = time.monotonic() + WARM_UP_S
        while time.monotonic() < warm_until:
            probe(engine, trino, "bench_1")
        without = [probe(engine, trino, "bench_1") for _ in range(PROBES)]
        found: list[dict[str, Any]] = []
        run = threading.Thread(target=lambda: found.append(run_of(grown, "recommend")))
        run.start()
        beside = []
        while run.is_alive():
            beside.append(probe(engine, trino, "bench_1"))
        run.join()
    assert len(found) == 1, "the run failed"
    rows = {
        name: same_rows(grown, name) for name in ("recommended_movies", "recommended_customers")
    }
    freshness = {"without": percentiles(without), "beside": percentiles(beside)}
    figures = {"ratings": RATINGS, "rows": rows, "freshness_s": freshness, **found[0]}
    truth = json.loads((grown.home / "truth-1.json").read_text())
    figures["least_rmse"] = truth["stars"]["least_rmse"]
    report("models_recommend", figures)


def test_a_list_from_the_serving_database(grown: Stack) -> None:
    published = {row["name"] for row in grown.answer("job", "published")}
    if "recommended_movies" not in published:
        run_of(grown, "recommend")
    rows = same_rows(grown, "recommended_movies")
    seconds = []
    with psycopg.connect(reader_dsn(grown.settings), autocommit=True) as connection:
        everybody = connection.execute("SELECT DISTINCT customer_id FROM recommended_movies")
        customers = [one for (one,) in everybody.fetchall()]
        chance = random.Random(1)
        for _ in range(LISTS_READ):
            began = time.monotonic()
            found = connection.execute(
                "SELECT movie_id FROM recommended_movies WHERE customer_id = %s ORDER BY rank",
                [chance.choice(customers)],
            ).fetchall()
            seconds.append(1_000 * (time.monotonic() - began))
            assert len(found) == 10
    report("models_serving", {"rows": rows, "milliseconds": percentiles(seconds)})


def test_top_movies_over_many_ratings(grown: Stack) -> None:
    if MOST_RATINGS > RATINGS:
        grow(grown, MOST_RATINGS - RATINGS, seed=2)
    runs = [run_of(grown, "top_movies") for _ in range(3)]
    # The view has the same rule, in SQL.
    columns = "rank, movie_id, title, release_year, average_stars, weighted_stars, ratings"
    expected = grown.query(f"SELECT {columns} FROM reports.best_rated_movies ORDER BY rank")
    assert grown.query(f"SELECT {columns} FROM ml.top_movies ORDER BY rank") == expected
    assert same_rows(grown, "top_movies") == 100
    [(ratings,)] = grown.query("SELECT count(*) FROM silver.ratings")
    middle = statistics.median(one["seconds"] for one in runs)
    report("models_top_movies", {"ratings": ratings, "seconds": middle, "runs": runs})


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    with spark_session() as session:
        yield session


@pytest.mark.parametrize("count", [120_000, 380_000])
def test_the_share_of_the_gap_to_the_planted_optimum(spark: SparkSession, count: int) -> None:
    store = planted(count)
    began = time.monotonic()
    found = judge_stars(spark, rated(store.ratings), 1)
    report(
        f"models_stars_{count}",
        {
            "seconds": round(time.monotonic() - began, 1),
            "gap_closed": round(found.gap_closed(store.least_rmse), 3),
            "errors": {**found.errors, "planted optimum": [store.least_rmse]},
            "options": str(found.options),
        },
    )


@pytest.mark.parametrize("count", [60_000, 120_000])
def test_lists_beside_the_most_popular(spark: SparkSession, count: int) -> None:
    began = time.monotonic()
    found = judge_lists(spark, seen(planted(count).ratings, NOBODY), 1)
    quality = found.quality
    report(
        f"models_lists_{count}",
        {
            "seconds": round(time.monotonic() - began, 1),
            "ndcg_ratio": round(quality["als"][0] / quality["most popular"][0], 3),
            "quality": quality,
            "options": str(found.options),
        },
    )


@pytest.mark.parametrize("model", [CHURN, DEFAULT_RISK], ids=["churn", "default_risk"])
def test_chances_beside_the_planted_optimum(model: RiskModel) -> None:
    store = planted_history(4_000)
    began = time.monotonic()
    split, risk, found = measured(model, order_history(store.tables), 1, store.truth)
    report(
        f"models_{model.name}",
        {
            "seconds": round(time.monotonic() - began, 1),
            "cases": {"training": len(split.training), "test": len(split.test)},
            "method": risk.method,
            "roc_auc": {name: round(one.roc_auc, 4) for name, one in found.items()},
        },
    )
