"""Models log their runs in the real MLflow: Postgres, the object store, its page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
import pyarrow.fs as pa_fs
import pytest
import requests
import yaml
from deltalake import write_deltalake

from app.models.averages import Averages, fit_averages
from app.models.best_lists import popularity
from app.models.factors import AlsOptions, Factors
from app.models.interactions import Pairs, held_out, rated, seen
from app.models.lists_model import ListsModel, ListsReport
from app.models.recommend import LISTS, STARS, Recommendations, log_run
from app.models.stars_model import StarsModel, StarsReport
from app.models.tracking.run_record import records_of
from app.models.tracking.tracker import TrackedRun, mlflow_environment, mlflow_python
from spark_streaming.storage.lake import Lake
from tests.support.planted import planted
from tests.support.planted_history import planted_history
from tests.support.stack import UP_TIMEOUT_S, Stack, fresh_stack

# Installing MLflow's environment and starting MLflow twenty times takes eight minutes.
pytestmark = pytest.mark.slow
JOB = ["-m", "app.models.risks.churn"]
OPTIONS = AlsOptions(1, 0.1)
# Like a user in MLflow's environment: the champion's model predicts some rows.
PREDICT = """
import json, sys
import mlflow, pandas
given = json.load(sys.stdin)
model = mlflow.pyfunc.load_model(given["model"])
print(json.dumps(model.predict(pandas.DataFrame(given["rows"])).tolist()))
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The serving database, the object store and MLflow's page."""
    profile = tmp_path_factory.mktemp("profile") / "tracked.toml"
    profile.write_text("tracking = true\n")
    with fresh_stack() as fresh:
        tracked = ("--profile", str(profile), "--only", "mlflow", "s3")
        fresh.run("up", "--jobs", *tracked, timeout_s=3 * UP_TIMEOUT_S)
        yield fresh


def api(stack: Stack, path: str, **given: object) -> Any:
    """MLflow's answer over HTTP."""
    url = f"{stack.urls()['mlflow']}/api/2.0/mlflow/{path}"
    answer = requests.get(url, params={k: str(v) for k, v in given.items()}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def champion(stack: Stack, name: str) -> str:
    found = api(stack, "registered-models/alias", name=name, alias="champion")
    return str(found["model_version"]["version"])


def run_of(stack: Stack, name: str, version: str) -> Any:
    found = api(stack, "model-versions/get", name=name, version=version)["model_version"]
    return api(stack, "runs/get", run_id=found["run_id"])["run"]


def predicted(stack: Stack, name: str, rows: dict[str, list[Any]]) -> Any:
    done = subprocess.run(
        [str(mlflow_python()), "-c", PREDICT],
        input=json.dumps({"model": f"models:/{name}@champion", "rows": rows}),
        env=mlflow_environment(stack.settings),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_silver(stack: Stack, customers: int) -> None:
    lake = Lake(stack.settings.store)
    for name, rows in planted_history(customers).tables.items():
        write_deltalake(
            lake.url(lake.silver_path(name)), rows, mode="overwrite",
            storage_options=lake.storage_options(),
        )  # fmt: skip


def learn_churn(stack: Stack) -> dict[str, Any]:
    """The output of a run of the job's program."""
    done = subprocess.run(
        [sys.executable, *JOB],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def scored_by(stack: Stack) -> set[str | None]:
    rows = Lake(stack.settings.store).table("ml/churn").to_pyarrow_table(columns=["model_version"])
    return set(rows["model_version"].to_pylist())


def test_the_page_runs_on_loopback_and_no_command_holds_a_secret(stack: Stack) -> None:
    row = stack.status()["mlflow"]
    assert row["state"] == "ready"
    page = requests.get(stack.urls()["mlflow"], timeout=60)
    assert page.status_code == 200 and "MLflow" in page.text
    settings = stack.settings
    secrets = [settings.secret("mlflow_db_password"), settings.secret("s3_secret_key")]
    pid = stack.observed("mlflow").pid
    assert pid is not None
    server = psutil.Process(pid)
    for process in (server, *server.children(recursive=True)):
        assert not [one for one in secrets if one in " ".join(process.cmdline())]
        for connection in process.net_connections(kind="inet"):
            assert connection.laddr.ip in ("127.0.0.1", "::1")
    log = "".join(path.read_text() for path in (stack.home / "run" / "mlflow").glob("*.log"))
    assert not [one for one in secrets if one in log]


def test_who_reaches_the_page_only_reads(stack: Stack) -> None:
    url = f"{stack.urls()['mlflow']}/api/2.0/mlflow/experiments/create"
    answer = requests.post(url, json={"name": "strangers"}, timeout=60)
    assert answer.status_code >= 400
    assert "read-only transaction" in answer.text
    names = {one["name"] for one in api(stack, "experiments/search", max_results=9)["experiments"]}
    assert names == {"Default"}


def test_a_run_is_read_back_and_its_model_predicts_the_same(stack: Stack, tmp_path: Path) -> None:
    write_silver(stack, 300)
    first = learn_churn(stack)
    assert (first["tracking"], first["champion"]) == ("logged", "there was no champion")
    assert scored_by(stack) == {"1"} and champion(stack, "churn") == "1"
    run = run_of(stack, "churn", "1")
    data = {kind: {one["key"]: one["value"] for one in run["data"][kind]} for kind in run["data"]}
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["artifact_uri"].startswith("s3://lake/models/churn/")
    assert {one: data["tags"][f"read.{one}"] for one in ("orders", "payments")} == {
        "orders": "0",
        "payments": "0",
    }
    assert data["params"]["method"] == first["method"]
    method = first["method"]
    assert data["metrics"][f"roc_auc.{method}"] == pytest.approx(
        first[f"roc_auc_{method.replace(' ', '_')}"], abs=1e-4
    )

    # The fit that scores, loaded by scikit-learn and as MLflow's model.
    lake = Lake(stack.settings.store)
    [found] = [
        one.path
        for one in lake.filesystem().get_file_info(_all_below("models/churn"))
        if one.path.endswith("fits/churn/final.joblib")
    ]
    copy = tmp_path / "final.joblib"
    copy.write_bytes(lake.filesystem().open_input_stream(found).readall())
    fit = joblib.load(copy)
    rows = np.random.default_rng(1).random((20, fit.n_features_in_))
    names = [one["name"] for one in json.loads(_signature(stack, "churn"))]
    answers = predicted(stack, "churn", dict(zip(names, rows.T.tolist(), strict=True)))
    np.testing.assert_allclose(answers, fit.predict_proba(rows))


def _all_below(folder: str) -> Any:
    return pa_fs.FileSelector(folder, recursive=True)


def _signature(stack: Stack, name: str) -> str:
    lake = Lake(stack.settings.store).filesystem()
    [found] = [
        one.path
        for one in lake.get_file_info(_all_below(f"models/{name}"))
        if one.base_name == "MLmodel"
    ]
    text = lake.open_input_stream(found).readall().decode()
    return str(yaml.safe_load(text)["signature"]["inputs"])


def test_the_champion_stays_where_a_run_is_no_better_and_scores(stack: Stack) -> None:
    again = learn_churn(stack)
    assert "is not better than" in again["champion"] and "version 1" in again["champion"]
    assert champion(stack, "churn") == "1" and scored_by(stack) == {"1"}
    assert run_of(stack, "churn", "2")["info"]["status"] == "FINISHED"
    quality = Lake(stack.settings.store).table("ml/churn_quality").to_pyarrow_table()
    assert set(quality["model_version"].to_pylist()) == {"1", "2"}


def test_a_run_while_the_database_is_away_is_kept_and_logged_by_the_next(stack: Stack) -> None:
    waiting = stack.home / "data" / "tracking"
    stack.stop("mlflow", "serving-db")
    kept = learn_churn(stack)
    assert kept["tracking"].startswith("kept for the next run: the serving database")
    assert "this run is kept for the next one to log" in kept["stderr"]
    assert scored_by(stack) == {None} and len(records_of(waiting)) == 1
    stack.run("up", "--jobs", "--only", "mlflow", "s3", timeout_s=UP_TIMEOUT_S)
    learn_churn(stack)
    assert records_of(waiting) == []
    assert scored_by(stack) == {"1"} and champion(stack, "churn") == "1"
    tags = api(stack, "model-versions/get", name="churn", version="3")["model_version"]["tags"]
    assert {"key": "verdict", "value": "not compared: MLflow was unavailable"} in tags
    assert run_of(stack, "churn", "4")["info"]["status"] == "FINISHED"


def made(given: Pairs, known: Pairs, worse_by: float) -> Recommendations:
    """The result of a run of `recommend` with averages instead of ALS."""

    def stars(pairs: Pairs) -> StarsModel:
        fitted = fit_averages(pairs)
        moved = Averages(fitted.mean + worse_by, fitted.customers, fitted.movies)
        return StarsModel(moved, factors(pairs))

    def factors(pairs: Pairs) -> Factors:
        customers, movies = len(pairs.customer_ids), len(pairs.movie_ids)
        liked = np.bincount(pairs.movies, weights=pairs.values, minlength=movies)
        scores = (-liked if worse_by else liked).astype(np.float64)
        known_customers, known_movies = np.ones(customers, np.bool_), np.ones(movies, np.bool_)
        return Factors(np.ones((customers, 1)), scores[:, None], known_customers, known_movies)

    def lists(pairs: Pairs) -> ListsModel:
        return ListsModel(factors(pairs), popularity(pairs.only(pairs.values > 0)))

    parts = []
    for pairs in (given, known):
        out = held_out(pairs.customers, 1)
        parts.append((pairs.only(~out), pairs.only(out)))
    (train, test), (seen_train, seen_test) = parts
    figures = {"als": (1.0 + worse_by, 1.0)}
    return Recommendations(
        None, None,
        StarsReport(train, test, stars(train), OPTIONS, figures, {"rank 1, regularisation 0.1": 1.0}),
        ListsReport(seen_train, seen_test, lists(seen_train), OPTIONS, figures, {}),
        stars(given), lists(known), given, known,
    )  # fmt: skip


def test_stars_and_lists_have_champions_of_their_own_which_better_ones_replace(
    stack: Stack,
) -> None:
    ratings = planted(6_000).ratings
    nobody = np.empty(0, np.int64), np.empty(0, np.int64)
    given, known = rated(ratings), seen(ratings, nobody)
    verdicts = []
    for worse_by in (0.3, 0.0, 0.3):
        with TrackedRun(stack.settings, "recommend") as run:
            versions, why = log_run(made(given, known, worse_by), run, 1, {"ratings": 7})
        verdicts.append((versions["stars"], champion(stack, STARS), champion(stack, LISTS)))
    assert verdicts == [("1", "1", "1"), ("2", "2", "2"), ("3", "2", "2")], why
    run = run_of(stack, STARS, "2")
    assert {"key": "read.ratings", "value": "7"} in run["data"]["tags"]
    assert run["info"]["run_id"] == run_of(stack, LISTS, "2")["info"]["run_id"]

    model = made(given, known, 0.0)
    test = model.stars.test.only(np.arange(len(model.stars.test)) < 20)
    customers = [*given.customer_ids[test.customers].tolist(), 10**12]
    movies = [*given.movie_ids[test.movies].tolist(), given.movie_ids[0].item()]
    rows = {"customer_id": customers, "movie_id": movies}
    stars = predicted(stack, STARS, rows)
    own = model.final_stars.of_pairs(test.customers, test.movies)
    np.testing.assert_allclose(stars[:-1], own)
    averages = model.final_stars.averages
    assert stars[-1] == pytest.approx(averages.mean + averages.movies[0])
    scores = predicted(stack, LISTS, rows)
    both = model.final_lists.scores(np.arange(len(known.customer_ids), dtype=np.int32))
    places = np.searchsorted(known.customer_ids, customers[:-1])
    own_scores = both[places, np.searchsorted(known.movie_ids, movies[:-1])]
    np.testing.assert_allclose(scores[:-1], own_scores)
    assert scores[-1] == pytest.approx(model.final_lists.popular[0])


def test_a_champion_that_was_changed_in_the_bucket_is_not_loaded(stack: Stack) -> None:
    lake = Lake(stack.settings.store).filesystem()
    run = run_of(stack, "churn", "1")["info"]["run_id"]
    with lake.open_output_stream(f"models/churn/{run}/artifacts/fits/churn/tested.joblib") as file:
        file.write(b"cos\nsystem\n(S'exit 1'\ntR.")
    changed = learn_churn(stack)
    assert (
        changed["champion"] == "version 1 has files in the bucket that differ from the logged ones"
    )
    assert champion(stack, "churn") == "5" and scored_by(stack) == {"5"}
