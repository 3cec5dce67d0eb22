"""Sends requests to Dagster by GraphQL: runs, schedules, reloading the job files.

Importing Dagster takes four seconds, so this uses the service `jobs` over HTTP.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import HeadwaterError

LOCATION = "headwater"
REPOSITORY = "__repository__"
TIMEOUT_S = 30.0  # a reload of the job files takes some seconds
RUNS_SHOWN = 50
_STATES = {
    "QUEUED": "queued", "NOT_STARTED": "queued", "MANAGED": "queued",
    "STARTING": "running", "STARTED": "running", "CANCELING": "canceling",
    "SUCCESS": "succeeded", "FAILURE": "failed", "CANCELED": "canceled",
}  # fmt: skip
OVER = ("succeeded", "failed", "canceled")

_RUN = "runId status pipelineName creationTime startTime endTime tags { key value }"
_LAUNCH = (
    """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { """
    + _RUN
    + """ } }
    ... on Error { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
)
_RUNS = (
    "query ($filter: RunsFilter, $limit: Int) { runsOrError(filter: $filter, limit: $limit) "
    "{ __typename ... on Runs { results { " + _RUN + " } } ... on Error { message } } }"
)
_CANCEL = """
mutation ($run: String!, $policy: TerminateRunPolicy) {
  terminateRun(runId: $run, terminatePolicy: $policy) { __typename ... on Error { message } ... on TerminateRunFailure { message } }
}"""
_RELOAD = """
mutation ($location: String!) {
  reloadRepositoryLocation(repositoryLocationName: $location) {
    __typename
    ... on Error { message }
    ... on WorkspaceLocationEntry {
      locationOrLoadError {
        __typename
        ... on PythonError { message }
        ... on RepositoryLocation { repositories { pipelines { name } } }
      }
    }
  }
}"""
_SCHEDULES = """
query ($repository: RepositorySelector!) {
  schedulesOrError(repositorySelector: $repository) {
    __typename
    ... on Schedules { results { name pipelineName scheduleState {
      id status typeSpecificData { ... on ScheduleData { startTimestamp } }
    } } }
    ... on Error { message }
  }
}"""
_START = """
mutation ($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) { __typename ... on Error { message } }
}"""
_STOP = """
mutation ($id: String!) {
  stopRunningSchedule(id: $id) { __typename ... on Error { message } }
}"""


@dataclass(frozen=True)
class Schedule:
    """A job's schedule: `scheduled` or `paused`, and since when; None before Dagster has seen it."""

    state: str
    since: dt.datetime | None


@dataclass(frozen=True)
class Run:
    """One run of a job; a time is None before it is reached."""

    id: str
    job: str
    state: str
    created: dt.datetime | None
    started: dt.datetime | None
    ended: dt.datetime | None
    parameters: Mapping[str, str]
    by: str  # schedule or hand

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.state in OVER

    @property
    def seconds(self) -> float | None:
        """The duration of the run, up to now if it is running."""
        if self.started is None:
            return None
        end = self.ended or dt.datetime.now(dt.timezone.utc)
        return round((end - self.started).total_seconds(), 1)


class DagsterClient:
    """Dagster's GraphQL interface at `url`. Each method raises HeadwaterError if it fails."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def launch(self, job: str, parameters: Mapping[str, str]) -> Run:
        """Queue a run."""
        tags = [{"key": "headwater/parameters", "value": json.dumps(dict(parameters))}]
        params = {
            "selector": {**self._repository(), "pipelineName": job},
            "executionMetadata": {"tags": tags},
        }
        return run_of(self._ask(_LAUNCH, "launchRun", "LaunchRunSuccess", params=params)["run"])

    def runs(self, job: str | None = None, *, limit: int = RUNS_SHOWN) -> list[Run]:
        """Return the latest runs of one job or of all jobs, the newest first."""
        wanted = {"pipelineName": job} if job else {}
        found = self._ask(_RUNS, "runsOrError", "Runs", filter=wanted, limit=limit)
        return [run_of(one) for one in found["results"]]

    def run(self, id: str) -> Run:
        """Return one run by its complete id."""
        found = self._ask(_RUNS, "runsOrError", "Runs", filter={"runIds": [id]}, limit=1)
        if not found["results"]:
            raise HeadwaterError(
                f"there is no run {id}", hint="`./headwater job status` lists runs"
            )
        return run_of(found["results"][0])

    def cancel(self, id: str) -> None:
        """Ask a run to end; its task is killed, and later tasks do not start."""
        self._ask(_CANCEL, "terminateRun", "TerminateRunSuccess", run=id, policy="SAFE_TERMINATE")

    def reload(self) -> list[str]:
        """Make Dagster read the job files again. Returns: the names of its jobs."""
        entry = self._ask(
            _RELOAD, "reloadRepositoryLocation", "WorkspaceLocationEntry", location=LOCATION
        )
        loaded = entry["locationOrLoadError"]
        if loaded["__typename"] != "RepositoryLocation":
            raise HeadwaterError(
                "Dagster could not read the job files",
                detail=loaded.get("message", ""),
                hint="./headwater logs jobs-code",
            )
        return [one["name"] for part in loaded["repositories"] for one in part["pipelines"]]

    def schedules(self) -> dict[str, Schedule]:
        """Return the schedule of each job that has one."""
        states = {"RUNNING": "scheduled", "STOPPED": "paused"}
        found = {}
        for one in self._schedules():
            state = one["scheduleState"]
            since = (state["typeSpecificData"] or {}).get("startTimestamp")
            found[one["pipelineName"]] = Schedule(states[state["status"]], _time(since))
        return found

    def pause(self, job: str) -> None:
        """Stop starting runs of a job by its schedule."""
        self._ask(
            _STOP,
            "stopRunningSchedule",
            "ScheduleStateResult",
            id=self._schedule(job)["scheduleState"]["id"],
        )

    def resume(self, job: str) -> None:
        """Start runs of a job by its schedule again; times that have passed are skipped."""
        selector = {**self._repository(), "scheduleName": self._schedule(job)["name"]}
        self._ask(_START, "startSchedule", "ScheduleStateResult", selector=selector)

    def _schedule(self, job: str) -> dict[str, Any]:
        for one in self._schedules():
            if one["pipelineName"] == job:
                return one
        raise HeadwaterError(
            f"job `{job}` has no schedule",
            hint="write `schedule` into its file, and create it again",
        )

    def _schedules(self) -> list[dict[str, Any]]:
        found = self._ask(
            _SCHEDULES, "schedulesOrError", "Schedules", repository=self._repository()
        )
        return list(found["results"])

    @staticmethod
    def _repository() -> dict[str, str]:
        return {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY}

    def _ask(self, query: str, field: str, expected: str, **variables: object) -> dict[str, Any]:
        """Return `field` of the answer, if it is of the type `expected`."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self._url}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            found = _refusal(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HeadwaterError(
                f"Dagster does not answer at {self._url}",
                detail=str(error),
                hint="`./headwater up --jobs` starts it; `./headwater status jobs` shows its state",
            ) from error
        if "errors" in found:
            raise HeadwaterError("Dagster refused a request", detail=str(found["errors"])[:500])
        one: dict[str, Any] = found["data"][field]
        if one["__typename"] != expected:
            raise HeadwaterError(
                f"Dagster could not do it ({one['__typename']})",
                detail=_why(one),
                hint="`./headwater status jobs-code` shows whether the code server is ready",
            )
        return one


def _refusal(error: urllib.error.HTTPError) -> dict[str, Any]:
    """Return the answer of a refused request, which usually has the reason in JSON."""
    text = error.read().decode(errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and ("data" in found or "errors" in found):
        return found
    raise HeadwaterError("Dagster refused a request", detail=text[:500]) from error


def _why(answer: Mapping[str, Any]) -> str:
    several = [one["message"] for one in answer.get("errors", ())]
    return "\n".join(several) or str(answer.get("message", ""))


def run_of(given: Mapping[str, Any]) -> Run:
    """Return a run from GraphQL's answer."""
    tags = {tag["key"]: tag["value"] for tag in given["tags"]}
    return Run(
        id=given["runId"],
        job=given["pipelineName"],
        state=_STATES[given["status"]],
        created=_time(given["creationTime"]),
        started=_time(given["startTime"]),
        ended=_time(given["endTime"]),
        parameters=json.loads(tags.get("headwater/parameters", "{}")),
        by="schedule" if "dagster/schedule_name" in tags else "hand",
    )


def _time(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
