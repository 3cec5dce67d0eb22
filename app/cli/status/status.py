"""`headwater status`: services and problems, for people, for machines and for scripts."""

from __future__ import annotations

import json
import sys
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

import typer

from app.cli import completion
from app.cli.options import FORMAT_OPTION
from app.cli.status import problems
from app.cli.status import snapshot_progress as loading
from app.printing import Format, duration, print_rows

if TYPE_CHECKING:
    from app.environment.settings import Settings
    from app.launcher.control import Stack
    from app.launcher.observed_status import Row

LATE_SHOWN = 5
NOT_WELL = 4


def status(
    service: list[str] = typer.Argument(
        None, help="Only these services.", autocompletion=completion.services
    ),
    check: bool = typer.Option(
        False, "--check", help="For scripts: only the exit code, with the reasons on stderr."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show each service: state, pid, port, memory, uptime, restarts, last error; and problems.

    It also lists connectors without events, tables that are stopped, a broken stream and the tables that are read again
    after it, each with its cause and the next step. Then it lists the tables that a first snapshot is still loading,
    tables that are left out because of their names or their columns' names, the partitions that bronze does not store
    at present, and the firing alerts, if Prometheus runs.

    As JSON it prints one object for each of these and for each silver table; `kind` is service, trouble,
    table, snapshot, alert, or unknown for services that did not answer. CSV has the columns that all share.

    Examples:
      ./headwater status
      ./headwater status silver --format json
      ./headwater status --check || echo "not well"

    Exit codes:
      0  It was shown; with --check: there is no problem.
      1  It failed; stderr has the failure, the observation and what to do.
      2  Wrong usage.
      4  With --check: there is a problem, or the stack is not running.
    """
    from app.cli.needs import open_stack
    from app.cli.status.overview import observe

    stack = open_stack()
    rows = stack.status(service or [])
    if fmt is Format.table and not check:
        show(stack, rows, service or [])
        return
    found = observe(stack, rows, service or [])
    if fmt is Format.json:
        print_json(found.rows())
    elif fmt is Format.csv:
        columns = [*(field.name for field in fields(Row)), "kind"]
        print_rows(columns, [[row.get(name) for name in columns] for row in found.rows()], fmt)
    if check:
        reasons = found.reasons()
        for reason in reasons:
            print(reason, file=sys.stderr)
        raise typer.Exit(NOT_WELL if reasons else 0)


def print_json(rows: list[dict[str, Any]]) -> None:
    """Print one array of objects on stdout."""
    print(json.dumps(rows, ensure_ascii=False, default=str))


def show(stack: Stack, rows: list[Row], service: list[str]) -> None:
    """Print the services as a table, then the problems; notes go to stderr."""
    from app.launcher.observed_status import Row

    found_problems = [] if service else problems.find_problems(stack.settings, stack.running())
    columns = [field.name for field in fields(Row)]
    columns[columns.index("uptime_s")] = "uptime"
    uptime = columns.index("uptime")
    values = [list(astuple(row)) for row in rows]
    for row_values in values:
        if row_values[uptime] is not None:
            row_values[uptime] = duration(row_values[uptime], compact=True)
    # The hints are printed below, with the problems.
    columns, values = columns[:-1], [row[:-1] for row in values]
    print_rows(columns, [["" if value is None else value for value in row] for row in values])
    if stack.home.is_supervised():
        problems.print_problems([*problems.of_services(rows), *found_problems])
    if not service and "connectors" in stack.running():
        found, why = loading.attempt(stack.settings, with_silver="silver" in stack.running())
        if found:
            loading.print_loading(found)
        elif why:
            print(why, file=sys.stderr)
    if not service and "capture" in stack.running():
        print_left_out(stack.settings)
    if not service and "connect" in stack.running():
        print_stopped_partitions(stack.settings)
    if "prometheus" in stack.running():
        print_alerts(f"http://127.0.0.1:{stack.settings.ports.number('prometheus')}", service)
    if stack.home.wanted().services and not stack.home.is_supervised():
        print("the supervisor has ended without stopping the stack: `up` repairs", file=sys.stderr)
    if not service and not stack.settings.profile.dashboards:
        print("Superset is left out: `./headwater up --dashboards` starts it", file=sys.stderr)
    if not service and "trino" in stack.running() and not stack.settings.profile.signed:
        print(
            "Trino asks nobody for a password: user names are claims, and only the contracts' masks "
            "hold (`access`, docs/governance.md)",
            file=sys.stderr,
        )
    states = {row.service: row.state for row in rows}
    if all(states.get(name) == "ready" for name in ("s3", "silver")):
        print_late_tables(stack.settings)


def print_left_out(settings: Settings) -> None:
    """Print on stderr which tables are not captured because of their name or a column's."""
    from app.source.left_out import left_out_messages

    for line in left_out_messages(settings):
        print(line, file=sys.stderr)


def print_stopped_partitions(settings: Settings) -> None:
    """Print on stderr which partitions the bronze sink does not store, each with the reason."""
    from app.lake.bronze_stopped import stopped_partitions

    try:
        found = stopped_partitions(settings)
    except (OSError, ValueError) as error:
        print(f"not known whether bronze keeps all topics: {error}", file=sys.stderr)
        return
    for one in found[:LATE_SHOWN]:
        print(one.message(), file=sys.stderr)
    if len(found) > LATE_SHOWN:
        print(f"and {len(found) - LATE_SHOWN} partitions more", file=sys.stderr)


def print_late_tables(settings: Settings) -> None:
    """Print on stderr which tables miss the freshness target of their contract."""
    from deltalake.exceptions import DeltaError

    from app.lake.freshness import late_tables

    try:
        found = late_tables(settings)
    except (DeltaError, OSError) as error:
        print(f"freshness is not known: {type(error).__name__}: {error}", file=sys.stderr)
        return
    if found:
        shown = ", ".join(one.summary() for one in found[:LATE_SHOWN])
        more = f" and {len(found) - LATE_SHOWN} more" if len(found) > LATE_SHOWN else ""
        print(f"behind their freshness target: {shown}{more}", file=sys.stderr)


def print_alerts(prometheus_url: str, services: list[str]) -> None:
    """Print the alerts that fire now; nothing for single `services` or without Prometheus."""
    from app.metrics.firing import firing

    found = None if services else firing(prometheus_url)
    if found is None:
        return
    print(f"\nalerts that fire: {len(found) or 'none'}")
    if found:
        rows = [(a.severity, a.alert, f"{a.since:%Y-%m-%d %H:%M:%S}Z", a.symptom) for a in found]
        print_rows(("severity", "alert", "since", "symptom"), rows)
