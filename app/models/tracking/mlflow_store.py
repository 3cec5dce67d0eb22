"""Reads and writes runs, models and versions in MLflow; runs in MLflow's own Python environment: `mlflow_store.py VERB`.

The environment has address and keys (`tracker`), stdin has the request as JSON, stdout gets the answer as JSON.

Each request first creates MLflow's tables, or upgrades those of an older MLflow; `prepare` does only this.

- `champions`: {"names", "into"}: the current champion of each name, with its files below the folder `into`.
- `log`: {"folder"}: a run in the form of `run_record`. The answer: name of each model → its version, and
  whether it became champion.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from skops.io import dumps, get_untrusted_types

ALIAS = "champion"
RECORD_TAG = "headwater.record"
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"  # as in MLflow's own server
FITS = "fits"  # the folder of a run's artefacts with which the next run compares
PREDICTOR = Path(__file__).with_name("factor_model.py")
Json = dict[str, Any]


def prepare() -> None:
    """Make or upgrade the tables."""
    from mlflow.store.db.utils import (
        _initialize_tables,
        _upgrade_db,
        create_sqlalchemy_engine_with_retry,
    )
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import inspect

    engine = create_sqlalchemy_engine_with_retry(os.environ["MLFLOW_TRACKING_URI"])
    if inspect(engine).has_table("alembic_version"):
        _upgrade_db(engine)
    else:
        _initialize_tables(engine)
    # Creates MLflow's default experiment in the bucket; the read-only page could not create it.
    SqlAlchemyStore(os.environ["MLFLOW_TRACKING_URI"], os.environ[ARTIFACT_ROOT])


def champions(asked: Json) -> Json:
    """Return each name's champion: `version`, `tags`, `files` (file → SHA-256); None if there is none."""
    client = MlflowClient()
    return {name: _champion(client, name, Path(asked["into"])) for name in asked["names"]}


def _champion(client: MlflowClient, name: str, into: Path) -> Json | None:
    try:
        version = client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    files = json.loads(version.tags["files"])
    there = {Path(one.path).name for one in client.list_artifacts(version.run_id, f"{FITS}/{name}")}
    folder = into / name
    folder.mkdir()
    for file in there & set(files):
        client.download_artifacts(version.run_id, f"{FITS}/{name}/{file}", str(folder))
    number, tags = str(version.version), dict(version.tags)
    return {"version": number, "tags": tags, "files": files, "folder": str(folder)}


def log(asked: Json) -> Json:
    """Log a run with its models; the remains of a killed attempt at the same run are replaced."""
    folder = Path(asked["folder"])
    record = json.loads((folder / "run.json").read_text())
    client = MlflowClient()
    experiment = _experiment(client, record)
    for run in client.search_runs([experiment], f"tags.`{RECORD_TAG}` = '{record['id']}'"):
        if run.info.status == "FINISHED":
            return _logged(client, run.info.run_id)
        for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            client.delete_model_version(version.name, version.version)
        client.delete_run(run.info.run_id)
    tags = {**record["tags"], RECORD_TAG: record["id"]}
    run_id = client.create_run(experiment, start_time=record["began_ms"], tags=tags).info.run_id
    client.log_batch(
        run_id,
        [Metric(name, value, record["ended_ms"], 0) for name, value in record["metrics"].items()],
        [Param(name, value) for name, value in record["parameters"].items()],
    )
    versions = {
        model["name"]: _log_model(client, run_id, model, folder) for model in record["models"]
    }
    for model in record["models"]:
        _move_alias(client, model, versions[model["name"]])
    client.set_terminated(run_id, "FINISHED", record["ended_ms"])
    return _logged(client, run_id)


def _experiment(client: MlflowClient, record: Json) -> str:
    found = client.get_experiment_by_name(record["experiment"])
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(record["experiment"], record["artifacts"]))


def _log_model(client: MlflowClient, run_id: str, model: Json, folder: Path) -> str:
    """Log a model and the tags by which it is compared. Returns: its version."""
    name, files = model["name"], folder / model["name"]
    client.log_artifacts(run_id, str(files), f"{FITS}/{name}")
    common = {
        "name": name,
        "registered_model_name": name,
        "signature": _signature(model),
        # By default MLflow starts a process that loads the model to find its imports.
        "pip_requirements": _requirements(model["kind"]),
    }
    with mlflow.start_run(run_id=run_id):
        if model["kind"] == "sklearn":
            fitted = joblib.load(files / "final.joblib")
            made = mlflow.sklearn.log_model(
                fitted,
                pyfunc_predict_fn="predict_proba",
                skops_trusted_types=_sklearn_types(fitted),
                **common,
            )
        else:
            artifacts = {"factors": str(files / "final.npz")}
            made = mlflow.pyfunc.log_model(
                python_model=str(PREDICTOR), artifacts=artifacts, **common
            )
    version = str(made.registered_model_version)
    tags = {**model["tags"], "files": json.dumps(model["files"]), "verdict": model["why"]}
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    return version


def _sklearn_types(fitted: Any) -> list[str]:
    """Return the types in a model that skops does not trust by default; only types of scikit-learn."""
    return [one for one in get_untrusted_types(data=dumps(fitted)) if one.startswith("sklearn.")]


def _signature(model: Json) -> ModelSignature:
    kind = "double" if model["kind"] == "sklearn" else "long"
    return ModelSignature(Schema([ColSpec(kind, column) for column in model["inputs"]]))


def _requirements(kind: str) -> list[str]:
    from importlib.metadata import version

    needed = ["numpy", "pandas"] if kind == "factors" else ["numpy", "scikit-learn"]
    return [f"{package}=={version(package)}" for package in needed]


def _move_alias(client: MlflowClient, model: Json, version: str) -> None:
    """Move the alias if the run decided so, and the champion is still the one with which it was compared."""
    name = model["name"]
    if not model["moves"]:
        return
    present = client.get_registered_model(name).aliases.get(ALIAS, "")
    if str(present) != model["rival"]:
        client.set_model_version_tag(
            name,
            version,
            "verdict",
            f"not compared with version {present}, which has become champion since",
        )
        return
    client.set_registered_model_alias(name, ALIAS, version)


def _logged(client: MlflowClient, run_id: str) -> Json:
    found = {}
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        aliases = client.get_registered_model(version.name).aliases
        is_champion = str(aliases.get(ALIAS, "")) == str(version.version)
        found[version.name] = {"version": str(version.version), "champion": is_champion}
    return found


VERBS = {"prepare": lambda _: {}, "champions": champions, "log": log}


def main(arguments: list[str]) -> int:
    """Answer one request. Returns: 0. An error of MLflow ends the program."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not be in the answer
    given = json.loads(sys.stdin.read() or "{}")
    prepare()
    json.dump(VERBS[arguments[0]](given), answer)
    answer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
