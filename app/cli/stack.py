"""Verbs that start, stop and show the stack."""

from __future__ import annotations

import sys
import time
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from app.cli import loading
from app.cli.needs import named_services
from app.cli.printing import FORMAT_OPTION, Format, Steps, print_object, print_rows

if TYPE_CHECKING:
    from app.launcher.control import Stack
    from app.settings import Settings

FOLLOW_POLL_S = 0.2
LATE_SHOWN = 5
LOG_SENDER = "log-sender"


def mount(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (up, down, status, logs, urls):
        app.command()(verb)


def open_stack() -> Stack:
    """The stack of the current home, with its saved settings."""
    from app.launcher.control import Stack
    from app.settings import load

    return Stack(load())


def up(
    more: list[str] = typer.Argument(None, metavar="[SERVICE]...", help="With --only: more names."),
    source: str = typer.Option(
        None, "--source", help="Capture this Postgres (postgresql://…) in place of the demo store."
    ),
    apply: bool = typer.Option(
        False, "--apply", help="Mend what preflight says is missing in your database or S3 store."
    ),
    profile: Path = typer.Option(None, "--profile", help="A TOML file of settings."),
    only: list[str] = typer.Option(
        [], "--only", help="Start these services and what they need: --only kafka s3."
    ),
    port_offset: int = typer.Option(
        None, "--port-offset", help="Add this to every port, to run beside another stack."
    ),
    dashboards: bool = typer.Option(
        None,
        "--dashboards/--no-dashboards",
        help="With Superset, or (the default) without it; kept for later starts.",
    ),
    send_logs: bool = typer.Option(
        False, "--send-logs", help="Also send the stack's own logs and runs to lake.silver."
    ),
) -> None:
    """Start the stack, or what is missing of it, and wait until it is ready."""
    from app.launcher.binary import how_to_get
    from app.launcher.control import Stack
    from app.launcher.lazy import LazyArtefacts
    from app.launcher.service import of_setting
    from app.settings import ROOT, load

    names = named_services(only, more)
    settings = load(
        None,
        profile,
        source_dsn=source,
        apply=apply or None,
        port_offset=port_offset,
        dashboards=dashboards,
    )
    stack = Stack(settings)
    extra = [LOG_SENDER] if send_logs else []
    selected = stack.select([*(names or stack.select([])), *extra] if extra else names)
    if not settings.embedded_source and not names:
        from app.source.preflight import ensure_ready

        ensure_ready(settings)
    if not settings.embedded_s3 and any("s3" in stack.described[n].depends_on for n in selected):
        from app.lake import object_store

        object_store.ensure_ready(settings)
    with Steps() as steps:
        if not names:
            for left_out in stack.unavailable.values():
                steps.note(f"without {left_out.name}: {how_to_get(left_out)}")
        named = [*names, *extra, *(of_setting(stack.services, "dashboards") if dashboards else [])]
        stack.up(selected, LazyArtefacts(ROOT, show=True), steps, named=named)
        steps.rest()
        ready = stack.awaited(selected, named)
        steps.note(f"ready: {', '.join(ready)}")
        if later := [name for name in selected if name not in ready]:
            steps.note(f"starting beside them: {', '.join(later)}")
        if "connectors" in selected:
            loading.follow(settings, steps, with_silver="silver" in stack.running())


def down(
    wipe: bool = typer.Option(
        False, "--wipe", help="Also remove all data, settings and logs of this stack."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask before --wipe."),
) -> None:
    """Stop the stack, dependents first."""
    stack = open_stack()
    if wipe and not yes and sys.stdin.isatty():
        typer.confirm(f"Remove all data under {stack.home.path}?", abort=True, err=True)
    with Steps() as steps:
        was_running = stack.down(steps)
        steps.rest()
        steps.note("stopped" if was_running else "nothing was running")
        if not stack.settings.embedded_source:
            steps.note(slot_note(wipe, stack.settings.profile.slot_name))
        if wipe:
            stack.wipe()
            steps.note(f"removed the data under {stack.home.path}")


def slot_note(wiped: bool, slot: str) -> str:
    """What stays in the user's database, where only its owner should end it."""
    until = "until you drop it" if wiped else "until the stack runs again, or you drop it"
    return (
        f"note: the replication slot `{slot}` stays in your database and keeps WAL {until}:\n"
        f"  SELECT pg_drop_replication_slot('{slot}');"
    )


def status(
    service: list[str] = typer.Argument(None, help="Only these services."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show each service: state, pid, port, memory, uptime, restarts, last error; and what alarms.

    As a table, it goes on with the tables that a first snapshot is still loading, those that are
    left out for the names of their columns, and the alerts that Prometheus says fire, where it runs.
    """
    from app.launcher.status import Row

    stack = open_stack()
    rows = stack.status(service or [])
    columns = [field.name for field in fields(Row)]
    values = [astuple(row) for row in rows]
    if fmt is Format.table:
        columns[columns.index("uptime_s")] = "uptime"
        values = [astuple(replace(row, uptime_s=duration(row.uptime_s))) for row in rows]
        values = [tuple("" if value is None else value for value in row) for row in values]
    print_rows(columns, values, fmt)
    if fmt is Format.table and not service and "connectors" in stack.running():
        found, why = loading.attempt(stack.settings, with_silver="silver" in stack.running())
        if found:
            loading.print_loading(found)
        elif why:
            print(why, file=sys.stderr)
    if fmt is Format.table and not service and "capture" in stack.running():
        tell_left_out(stack.settings)
    if fmt is Format.table and "prometheus" in stack.running():
        print_alerts(f"http://127.0.0.1:{stack.settings.port('prometheus')}", service or [])
    if stack.home.wanted().services and not stack.home.is_supervised():
        print("the supervisor has ended without stopping the stack: `up` repairs", file=sys.stderr)
    if fmt is Format.table and not service and not stack.settings.profile.dashboards:
        print("Superset is left out: `./headwater up --dashboards` starts it", file=sys.stderr)
    states = {row.service: row.state for row in rows}
    if fmt is Format.table and all(states.get(name) == "ready" for name in ("s3", "silver")):
        tell_late(stack.settings)


def tell_left_out(settings: Settings) -> None:
    """Say on stderr which tables are not captured for the names of their columns."""
    from app.source.left_out import left_out_told

    for line in left_out_told(settings):
        print(line, file=sys.stderr)


def tell_late(settings: Settings) -> None:
    """Say on stderr which tables miss the freshness target of their contract."""
    from deltalake.exceptions import DeltaError

    from app.lake.freshness import late_tables

    try:
        found = late_tables(settings)
    except (DeltaError, OSError) as error:
        print(f"freshness is not known: {type(error).__name__}: {error}", file=sys.stderr)
        return
    if found:
        shown = ", ".join(one.told() for one in found[:LATE_SHOWN])
        more = f" and {len(found) - LATE_SHOWN} more" if len(found) > LATE_SHOWN else ""
        print(f"behind their freshness target: {shown}{more}", file=sys.stderr)


def print_alerts(prometheus_url: str, services: list[str]) -> None:
    """Print what fires now. Of single `services`, and where nobody answers, nothing is told."""
    from app.metrics.firing import firing

    found = None if services else firing(prometheus_url)
    if found is None:
        return
    print(f"\nalerts that fire: {len(found) or 'none'}")
    if found:
        rows = [(a.severity, a.alert, f"{a.since:%Y-%m-%d %H:%M:%S}Z", a.symptom) for a in found]
        print_rows(("severity", "alert", "since", "symptom"), rows)


def duration(seconds: int | None) -> Any:
    """Seconds as people read them: 42s, 5m 10s, 3h 4m, 2d 5h."""
    if seconds is None:
        return None
    units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
    first = next((i for i, (_, size) in enumerate(units) if seconds >= size), len(units) - 1)
    parts = []
    for name, size in units[first : first + 2]:
        count, seconds = divmod(seconds, size)
        parts.append(f"{count}{name}")
    return " ".join(parts)


def logs(
    service: str = typer.Argument(help="A service, or `supervisor`."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on as lines come."),
    lines: int = typer.Option(50, "--lines", "-n", min=0, help="How many lines of each file."),
    send: bool = typer.Option(
        False, "--send", help="Send them to lake.silver.app_logs in place of printing them."
    ),
) -> None:
    """Print the last lines of a service's output."""
    from app.launcher import logs as files

    paths = open_stack().log_files(service)
    if send:
        from app.cli.streams import send_lines

        count = send_lines(service, paths, lines)
        print(f"sent {count} lines of {service} to lake.silver.app_logs", file=sys.stderr)
        return
    offsets = {path: files.size(path) for path in paths}
    for path in paths:
        found = files.tail(path, lines) if lines else []
        if found and len(paths) > 1:
            print(f"==> {path.name} <==", file=sys.stderr, flush=True)
        for line in found:
            print(line)
    sys.stdout.flush()
    if lines and not any(offsets.values()):
        print(f"{service} has written nothing yet", file=sys.stderr)
    while follow:
        for path in paths:
            end = files.size(path)
            if end < offsets[path]:
                offsets[path] = 0  # it was rotated
            if end > offsets[path]:
                sys.stdout.write(files.read(path, offsets[path], end))
                sys.stdout.flush()
                offsets[path] = end
        time.sleep(FOLLOW_POLL_S)


def urls(fmt: Format = FORMAT_OPTION) -> None:
    """Print where to reach each part."""
    from app.launcher.lazy import LazyArtefacts
    from app.settings import ROOT

    print_object(open_stack().urls(LazyArtefacts(ROOT)), fmt)
