"""Logs a model's run in MLflow, through a process in MLflow's own Python environment.

Headwater's packages and MLflow's conflict in one environment, so the two exchange JSON (`mlflow_store`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any
from urllib.parse import quote

import psycopg
from typing_extensions import Self

from app.artefacts.dist import Artefacts
from app.environment.settings import ROOT, Settings
from app.errors import HeadwaterError
from app.models.tracking.champion import Verdict
from app.models.tracking.run_record import (
    Kind,
    ModelRecord,
    RunRecord,
    begin_record,
    complete_record,
    digests,
    records_of,
)
from spark_streaming.storage.connections import TCP_LIMITS
from spark_streaming.storage.lake import Lake

GROUP = "mlflow"
# The environment's folder if it exists already, as in an image.
PYTHON = "HEADWATER_MLFLOW_PYTHON"
DATABASE = ROLE = "mlflow"
PASSWORD = "mlflow_db_password"
PROGRAM = Path(__file__).with_name("mlflow_store.py")
ANSWER_S = 600.0
LAKE_FOLDER = "models"
_PASSED_ON = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NO_PROXY",
    "no_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy",
)  # fmt: skip


class TrackingAway(HeadwaterError):
    """MLflow is unavailable now: its database, the store or its environment is missing."""


class TrackingFailed(TrackingAway):
    """MLflow refused a request."""


@dataclass(frozen=True)
class Champion:
    """The current champion. `folder`: its files, each unchanged since it was logged; None if one has changed (`why_not`)."""

    version: str
    tags: Mapping[str, str]
    folder: Path | None
    why_not: str = ""


@dataclass(frozen=True)
class Version:
    """The version that a run's model became."""

    number: str
    is_champion: bool


def mlflow_python() -> Path:
    """Return the Python of MLflow's environment; the environment is made at its first use.

    Raises: HeadwaterError if it cannot be made.
    """
    if given := os.environ.get(PYTHON):
        return Path(given)
    artefacts = Artefacts(ROOT)
    artefacts.prepare([GROUP])
    return artefacts.directory(GROUP) / "bin" / "python"


def mlflow_environment(settings: Settings) -> dict[str, str]:
    """Return the variables with which MLflow finds its database and the lake's bucket; some are secret."""
    store, password = settings.store, quote(settings.secret(PASSWORD))
    address = settings.ports.address("serving_db")
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    found |= {
        "MLFLOW_TRACKING_URI": f"postgresql://{ROLE}:{password}@{address}/{DATABASE}?connect_timeout=10",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": Lake(store).url(LAKE_FOLDER),
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
        "AWS_DEFAULT_REGION": store.region,
        # Only AWS's own store accepts checksums in a trailer.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MALLOC_ARENA_MAX": "2",
    }
    if store.endpoint:
        found["MLFLOW_S3_ENDPOINT_URL"] = store.endpoint
    if store.access_key:
        found |= {
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
        }
    if "SSL_CERT_FILE" in found:
        found["AWS_CA_BUNDLE"] = found["SSL_CERT_FILE"]
    return found


class MlflowProcess:
    """Sends requests to `mlflow_store`, one process for each request."""

    def __init__(self, settings: Settings, python: Callable[[], Path] = mlflow_python) -> None:
        self._settings = settings
        self._python = python

    def ask(self, verb: str, asked: Mapping[str, Any]) -> Any:
        """Return the answer. Raises: TrackingAway."""
        self._check_database()
        try:
            python = self._python()
            done = subprocess.run(
                [str(python), str(PROGRAM), verb],
                input=json.dumps(asked),
                env=mlflow_environment(self._settings),
                capture_output=True,
                text=True,
                timeout=ANSWER_S,
            )
        except subprocess.TimeoutExpired:
            raise TrackingAway("MLflow did not answer", detail=f"waited {ANSWER_S:.0f} s") from None
        except (HeadwaterError, OSError) as error:
            raise TrackingAway("MLflow's environment is missing", detail=str(error)) from error
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise TrackingFailed("MLflow failed", detail=" ".join(said[-1:])[:500])
        return json.loads(done.stdout)

    def _check_database(self) -> None:
        """Raise TrackingAway if the database does not answer: MLflow itself would retry for minutes."""
        address = mlflow_environment(self._settings)["MLFLOW_TRACKING_URI"]
        try:
            with psycopg.connect(address.partition("?")[0], **TCP_LIMITS):
                pass
        except psycopg.Error as error:
            raise TrackingAway(
                "the serving database does not answer",
                detail=str(error).strip().splitlines()[0],
                hint="./headwater status serving-db",
            ) from error


class TrackedRun:
    """One run of a model: a context that gets champions, adds models, and logs the run.

    Without `tracking` in the profile, or without jobs, every method does nothing. If MLflow is unavailable, the run
    is kept in `<home>/data/tracking` and the next one logs it; it moves no alias, because it was not compared.

    Args:
        experiment: the model's name. The runs of a further source are in another experiment, with their own versions.
    """

    def __init__(
        self, settings: Settings, experiment: str, process: MlflowProcess | None = None
    ) -> None:
        self.is_on = settings.profile.flag("tracking")
        self.away: TrackingAway | None = None
        self._suffix = f"_{settings.source}" if settings.source else ""
        self._experiment = self.full_name(experiment)
        self._process = process or MlflowProcess(settings)
        self._artifacts = Lake(settings.store).url(f"{LAKE_FOLDER}/{self._experiment}")
        self._waiting = settings.home / "data" / "tracking"
        self._began_ms = _now_ms()
        self._id = uuid.uuid4().hex
        self._models: list[ModelRecord] = []
        self._folder: Path | None = None
        self._fetched = TemporaryDirectory(prefix="headwater-champion-")

    def full_name(self, name: str) -> str:
        """Return the name of a registered model, including the source's name for a further source."""
        return f"{name}{self._suffix}"

    def __enter__(self) -> Self:
        if self.is_on:
            name = f"{self._began_ms}-{self._experiment}-{self._id[:8]}"
            self._folder = begin_record(self._waiting, name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._fetched.cleanup()
        if self._folder is not None:  # the run ended before it was complete
            shutil.rmtree(self._folder, ignore_errors=True)

    def champions(self, *names: str) -> dict[str, Champion | None]:
        """Log the waiting runs, then return the champion of each name; None if there is none.

        If MLflow is unavailable: no name, and `away` has the reason.
        """
        if not self.is_on:
            return {}
        asked = {"names": [self.full_name(name) for name in names], "into": self._fetched.name}
        try:
            self._log_waiting()
            found = self._process.ask("champions", asked)
        except TrackingAway as error:
            self.away = error
            return {}
        return {name: _checked(found[self.full_name(name)]) for name in names}

    def folder(self, name: str) -> Path | None:
        """Make the folder for the files of a model; None without tracking."""
        if self._folder is None:
            return None
        folder = self._folder / self.full_name(name)
        folder.mkdir(exist_ok=True)
        return folder

    def add(
        self, name: str, inputs: Sequence[str], tags: Mapping[str, str], said: Verdict | None
    ) -> None:
        """Add the model whose files are in its folder. `said`: None if it could not be compared."""
        folder = self.folder(name)
        if folder is None:
            return
        files = digests(folder)
        said = said or Verdict(False, "not compared: MLflow was unavailable")
        kind: Kind = "sklearn" if "final.joblib" in files else "factors"
        self._models.append(
            ModelRecord(
                self.full_name(name), kind, list(inputs), files, dict(tags), said.moves, said.rival, said.why
            )
        )  # fmt: skip

    def log(
        self,
        parameters: Mapping[str, object],
        metrics: Mapping[str, float],
        versions_read: Mapping[str, int],
    ) -> dict[str, Version]:
        """Log the run. Returns: name → version; empty for a run that is kept for later."""
        if self._folder is None:
            return {}
        read = {f"read.{table}": str(version) for table, version in versions_read.items()}
        job = {"job": os.environ.get("HEADWATER_JOB", ""), "job_run": _job_run()}
        record = RunRecord(
            self._id,
            self._experiment,
            self._artifacts,
            self._began_ms,
            _now_ms(),
            {name: str(value) for name, value in parameters.items()},
            dict(metrics),
            {**read, **{name: value for name, value in job.items() if value}},
            self._models,
        )
        folder, self._folder = complete_record(self._folder, record), None
        if self.away is not None:
            return {}
        try:
            found = self._process.ask("log", {"folder": str(folder)})
        except TrackingAway as error:
            self.away = error
            return {}
        shutil.rmtree(folder)
        names = {one.name: one.name.removesuffix(self._suffix) for one in self._models}
        return {
            name: Version(found[full]["version"], found[full]["champion"])
            for full, name in names.items()
        }

    def state(self) -> str:
        """Return the run's state: `logged`, `off`, or that it waits, and why."""
        if not self.is_on:
            return "off"
        return "logged" if self.away is None else f"kept for the next run: {self.away.message}"

    def _log_waiting(self) -> None:
        for folder in records_of(self._waiting):
            try:
                self._process.ask("log", {"folder": str(folder)})
            except TrackingFailed as error:  # that record stays; this run continues
                print(f"{folder.name} still waits for MLflow: {error}", file=sys.stderr)
                continue
            with suppress(OSError):  # another run has deleted it already
                shutil.rmtree(folder)


def _checked(found: Any) -> Champion | None:
    """Accept only unchanged files of a champion: write access to the bucket must not allow running code here."""
    if found is None:
        return None
    folder = Path(found["folder"])
    there = digests(folder) if folder.is_dir() else {}
    if there != found["files"]:
        why = "has files in the bucket that differ from the logged ones"
        return Champion(found["version"], found["tags"], None, why)
    return Champion(found["version"], found["tags"], folder)


def _job_run() -> str:
    given = os.environ.get("HEADWATER_JOB_RUN_FOLDER")
    return Path(given).name if given else ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def warn_of(run: TrackedRun) -> None:
    """Print on stderr why a run waits for MLflow."""
    if run.away is not None:
        print(f"this run is kept for the next one to log: {run.away}", file=sys.stderr)
