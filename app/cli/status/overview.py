"""A whole stack as rows for machines: services, problems, tables, first snapshots, alerts.

Each row has `kind`, the columns of `app.launcher.observed_status.Row`, and more columns by its
kind. A part that cannot be asked is a row of the kind `unknown`, with the reason: nothing is left
out silently.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from app.cli.status import problems
from app.cli.status import snapshot_progress as loading
from app.health.problem import Problem, one_line

if TYPE_CHECKING:
    from app.launcher.control import Stack
    from app.launcher.observed_status import Row

RUNS = ("ready", "completed", "unavailable")
NOT_RUNNING = "this stack is not running"
Rows = list[dict[str, Any]]


@dataclass
class Overview:
    """The observed state of a stack.

    Args:
        services: a row for each service.
        asked: the services that are to run.
        names: the services that the user named; then only these are in it.
    """

    services: Sequence[Row]
    asked: Sequence[str]
    names: Sequence[str] = ()
    supervised: bool = True
    problems: list[Problem] = field(default_factory=list)
    tables: Rows = field(default_factory=list)
    snapshots: Rows = field(default_factory=list)
    alerts: Rows = field(default_factory=list)

    def rows(self) -> Rows:
        """Return all rows, services first."""
        found = [asdict(row) | {"kind": "service"} for row in self.services]
        for row in problems.as_rows(self.problems):
            found.append(asdict(row) | {"kind": "trouble"})
        return [*found, *self.tables, *self.snapshots, *self.alerts]

    def reasons(self) -> list[str]:
        """Return why not all is well, a line each; empty if all is well."""
        if not self.asked or not self.supervised:
            return [f"{NOT_RUNNING}; start it: ./headwater up"]
        found = [
            _reason(row.service, row.state, row.last_error)
            for row in self.services
            if row.state not in RUNS and row.service in (self.names or self.asked)
        ]
        found += [_reason(one.part, one.state, one.cause) for one in self.problems]
        for row in [*self.tables, *self.alerts]:
            if row["kind"] == "alert":
                found.append(_reason(row["service"], "the alert fires", row["last_error"]))
            elif row.get("late") and row["behind_s"] is not None:
                behind = f"{row['behind_s']:.0f} s behind, its target is {row['target_s']:g} s"
                found.append(_reason(row["service"], "late", behind))
        return found


def observe(stack: Stack, services: Sequence[Row], names: Sequence[str]) -> Overview:
    """Ask all parts at the same time; where services are named (`names`), ask nothing else."""
    running = stack.running()
    found = Overview(services, running, names, stack.home.is_supervised())
    if names:
        return found
    from app.environment.ports import service_name

    # Two threads that import the same package at once may each wait for the other.
    for module in (
        "app.lake.stopped_tables",
        "app.lake.table_states",
        "app.connectors.uncaptured_tables",
    ):
        importlib.import_module(module)
    with ThreadPoolExecutor() as pool:
        found_problems = pool.submit(problems.find_problems, stack.settings, running)
        tables = [
            pool.submit(
                _known,
                f"{service_name('silver', name).replace('-', '_')}.*",
                service_name("silver", name),
                running,
                partial(_tables, stack, name),
            )
            for name in ("", *(one.name for one in stack.settings.profile.sources))
        ]
        snapshots = pool.submit(
            _known, "snapshots", "connectors", running, lambda: _snapshots(stack)
        )
        alerts = pool.submit(_known, "alerts", "prometheus", running, lambda: _alerts(stack))
        found.problems = found_problems.result()
        found.tables = [row for each in tables for row in each.result()]
        found.snapshots = snapshots.result()
        found.alerts = alerts.result()
    return found


def _reason(part: str, state: str, cause: str) -> str:
    return f"{part}: {state}" + (f": {one_line(cause)}" if cause else "")


def _row(kind: str, name: str, state: str, cause: str = "", hint: str = "") -> dict[str, Any]:
    """Make a row with the columns that all rows share."""
    from app.launcher.observed_status import Row

    return asdict(Row(name, state, None, "", None, None, 0, cause, hint)) | {"kind": kind}


def _known(part: str, needs: str, running: Sequence[str], ask: Callable[[], Rows]) -> Rows:
    """Return the rows of `ask`, or one row that says why they are not known."""
    if not running:
        return [_row("unknown", part, "not known", NOT_RUNNING)]
    if needs not in running:
        return [_row("unknown", part, "not known", f"`{needs}` does not run in this stack")]
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - whatever a part raises is reported as the reason
        first = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        return [_row("unknown", part, "not known", one_line(first))]


def _tables(stack: Stack, source: str) -> Rows:
    from app.environment.settings import of_source
    from app.lake.table_states import table_states

    settings = of_source(stack.settings, source) if source else stack.settings
    return [
        _row("table", f"{settings.silver_schema}.{one.table}", one.state, one.reason, one.hint)
        | {name: value for name, value in one._asdict().items() if name not in ("reason", "hint")}
        for one in table_states(settings)
    ]


def _snapshots(stack: Stack) -> Rows:
    found = loading.observe(stack.settings, with_silver="silver" in stack.running())
    return [
        _row("snapshot", f"snapshot of {one.table}", one.state)
        | {
            "table": one.table,
            "rows_read": one.read,
            "rows_estimated": one.estimated,
            "read_percent": one.percent,
            "rows_merged": one.merged,
            "to_go_s": found.to_go_s if found else None,
        }
        for one in (found.tables if found else ())
    ]


def _alerts(stack: Stack) -> Rows:
    from app.metrics.firing import firing

    found = firing(f"http://127.0.0.1:{stack.settings.ports.number('prometheus')}")
    if found is None:
        raise OSError("Prometheus does not answer")
    return [
        _row("alert", one.alert, "firing", one.symptom)
        | {"severity": one.severity, "since": one.since.isoformat()}
        for one in found
    ]
