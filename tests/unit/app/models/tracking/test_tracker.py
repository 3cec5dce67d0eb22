"""A run is logged once, kept while MLflow is unavailable, and never lost silently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.environment.settings import ROOT, Settings, load
from app.models.tracking.champion import Verdict
from app.models.tracking.run_record import digests, records_of
from app.models.tracking.tracker import (
    MlflowProcess,
    TrackedRun,
    TrackingAway,
    TrackingFailed,
    Version,
    mlflow_environment,
)

BETTER = Verdict(True, "brier 0.1 is better than 0.2 of version 1 on the same hold-out", "1")


class Answers(MlflowProcess):
    """Replaces MLflow's process with fixed answers, and records the requests."""

    def __init__(self, away: TrackingAway | None = None, files: Mapping[str, str] | None = None):
        self.away = away
        self.files = files
        self.logged: list[dict[str, Any]] = []

    def ask(self, verb: str, asked: Mapping[str, Any]) -> Any:
        if self.away is not None and (verb == "log" or not isinstance(self.away, TrackingFailed)):
            raise self.away
        if verb == "log":
            folder = Path(asked["folder"])
            record = json.loads((folder / "run.json").read_text())
            self.logged.append(record)
            number = str(len(self.logged))
            return {
                one["name"]: {"version": number, "champion": one["moves"]}
                for one in record["models"]
            }
        return {name: self._champion(name, Path(asked["into"])) for name in asked["names"]}

    def _champion(self, name: str, into: Path) -> dict[str, Any] | None:
        if self.files is None:
            return None
        folder = into / name
        folder.mkdir()
        (folder / "final.joblib").write_text("a fit")
        files = {**digests(folder), **self.files}
        return {"version": "1", "tags": {}, "files": files, "folder": str(folder)}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path, jobs=True, tracking=True)


def run_once(settings: Settings, process: Answers) -> tuple[TrackedRun, dict[str, Version]]:
    with TrackedRun(settings, "churn", process) as run:
        found = run.champions("churn")
        folder = run.folder("churn")
        assert folder is not None
        (folder / "final.joblib").write_text("a new fit")
        run.add("churn", ["a"], {"value": "0.1"}, BETTER if "churn" in found else None)
        return run, run.log({"seed": 1}, {"brier": 0.1}, {"orders": 12})


def waiting(settings: Settings) -> list[Path]:
    return records_of(settings.home / "data" / "tracking")


def test_a_run_is_logged_with_what_it_read_and_nothing_of_it_stays_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_JOB", "churn")
    process = Answers()
    run, versions = run_once(settings, process)
    assert versions == {"churn": Version("1", True)}
    [record] = process.logged
    assert record["tags"] == {"read.orders": "12", "job": "churn"}
    assert record["parameters"] == {"seed": "1"}
    assert record["metrics"] == {"brier": 0.1}
    assert record["artifacts"] == "s3://lake/models/churn"
    assert (record["models"][0]["kind"], record["models"][0]["rival"]) == ("sklearn", "1")
    assert waiting(settings) == [] and run.state() == "logged"


def test_runs_wait_while_mlflow_is_away_and_are_logged_in_order_without_moving_the_alias(
    settings: Settings,
) -> None:
    away = TrackingAway("the serving database does not answer")
    for _ in range(2):
        run, versions = run_once(settings, Answers(away))
        assert versions == {}
        assert run.state() == "kept for the next run: the serving database does not answer"
    assert len(waiting(settings)) == 2
    process = Answers()
    _, versions = run_once(settings, process)
    assert versions == {"churn": Version("3", True)}
    assert [one["models"][0]["moves"] for one in process.logged] == [False, False, True]
    assert [one["began_ms"] for one in process.logged] == sorted(
        one["began_ms"] for one in process.logged
    )
    assert waiting(settings) == []


def test_a_run_that_mlflow_refuses_waits_and_holds_back_no_other(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = TrackingFailed("MLflow failed", detail="no such metric")
    run_once(settings, Answers(refused))
    run, _ = run_once(settings, Answers(refused))
    assert "still waits for MLflow: MLflow failed" in capsys.readouterr().err
    assert len(waiting(settings)) == 2 and run.away is refused


def test_a_run_that_ends_early_leaves_nothing(settings: Settings) -> None:
    with pytest.raises(OSError, match="no store"), TrackedRun(settings, "churn", Answers()) as run:
        assert run.folder("churn") is not None
        raise OSError("no store")
    assert list((settings.home / "data" / "tracking").iterdir()) == []


@pytest.mark.parametrize(("jobs", "tracking"), [(False, False), (True, False), (False, True)])
def test_without_jobs_and_the_key_nothing_is_tracked_or_written(
    tmp_path: Path, jobs: bool, tracking: bool
) -> None:
    with TrackedRun(load(tmp_path, jobs=jobs, tracking=tracking), "churn", Answers()) as run:
        assert run.champions("churn") == {}
        assert run.folder("churn") is None
        run.add("churn", ["a"], {}, None)
        assert run.log({}, {}, {}) == {}
    assert run.state() == "off"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("other", "usable"), [({}, True), ({"final.joblib": "0" * 64}, False), ({"more": "1"}, False)]
)
def test_files_of_a_champion_are_taken_only_as_they_were_logged(
    settings: Settings, other: dict[str, str], usable: bool
) -> None:
    with TrackedRun(settings, "churn", Answers(files=other)) as run:
        champion = run.champions("churn")["churn"]
        assert champion is not None
        assert (champion.folder is not None) == usable
        assert ("differ from the logged" in champion.why_not) != usable


def test_secrets_are_in_the_environment_of_mlflow_and_in_no_words_of_its_command(
    settings: Settings,
) -> None:
    found = mlflow_environment(settings)
    assert settings.secret("mlflow_db_password") in found["MLFLOW_TRACKING_URI"]
    assert found["AWS_SECRET_ACCESS_KEY"] == settings.secret("s3_secret_key")
    assert found["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert not [name for name in found if name.startswith("HEADWATER_")]


@pytest.mark.parametrize("package", ["scikit-learn", "joblib", "numpy", "scipy"])
def test_mlflow_reads_fits_by_the_versions_that_wrote_them(package: str) -> None:
    def pinned(lock: str) -> list[str]:
        lines = (ROOT / lock).read_text().splitlines()
        return [line for line in lines if line.startswith(f"{package}==")]

    assert pinned("requirements/runtime.lock") == pinned("app/models/tracking/requirements.lock")
    assert pinned("requirements/runtime.lock")
