"""`headwater up`: start the stack, or those of its services that do not run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli import completion
from app.cli.given import SOURCE_HELP, settings_with
from app.cli.needs import named_services, without_services
from app.cli.status import snapshot_progress as loading
from app.cli.verbs.stack.backup import announce
from app.printing import Steps

if TYPE_CHECKING:
    from app.environment.settings import Settings
    from app.launcher.control import Stack

LOG_SENDER = "log-sender"


def up(
    more: list[str] = typer.Argument(
        None,
        metavar="[SERVICE]...",
        help="With --only or --without: more names.",
        autocompletion=completion.services,
    ),
    source: str = typer.Option(
        None, "--source", help=f"Capture this Postgres in place of the demo store: {SOURCE_HELP}"
    ),
    apply: bool = typer.Option(
        False, "--apply", help="Repair what preflight reports in your database or S3 store."
    ),
    profile: Path = typer.Option(None, "--profile", help="A TOML file of settings."),
    only: list[str] = typer.Option(
        [],
        "--only",
        help="Start these services and their dependencies: --only kafka s3.",
        autocompletion=completion.services,
    ),
    without: list[str] = typer.Option(
        [],
        "--without",
        help="Start all but these services: --without app metrics.",
        autocompletion=completion.services,
    ),
    port_offset: int = typer.Option(
        None, "--port-offset", help="Add this to every port, to run beside another stack."
    ),
    dashboards: bool = typer.Option(
        None,
        "--dashboards/--no-dashboards",
        help="With Superset, or (the default) without it; kept for later starts.",
    ),
    jobs: bool = typer.Option(
        None,
        "--jobs/--no-jobs",
        help="With or without (the default) the services for jobs; kept for later starts.",
    ),
    send_logs: bool = typer.Option(
        False, "--send-logs", help="Also send the stack's own logs and runs to lake.silver."
    ),
) -> None:
    """Start the stack, or those of its services that do not run, and wait until it is ready.

    Prints on stderr which services it waits for and which are ready. A second run changes nothing. If it fails or is
    interrupted, it stops what it has started. A first snapshot that still runs is followed for 15 s.

    Examples:
      ./headwater up
      ./headwater up --source postgresql://me@db.example.com/shop --apply
      ./headwater up --only kafka s3
    """
    from app.artefacts.lazy import LazyArtefacts
    from app.environment.restored import refuse_half_restored
    from app.environment.settings import ROOT
    from app.launcher.control import Stack
    from app.services.service import dashboard_services, job_services

    left_out = [*without, *(more or [])] if without and not only else without
    names = named_services(only, None if left_out is not without else more)
    settings = settings_with(
        profile,
        source,
        apply=apply or None,
        port_offset=port_offset,
        dashboards=dashboards,
        jobs=jobs,
    )
    refuse_half_restored(settings.home)
    stack = Stack(settings)
    extra = [LOG_SENDER] if send_logs else []
    selected = stack.select([*(names or stack.select([])), *extra] if extra else names)
    selected = without_services(selected, left_out, stack.services)
    with Steps() as steps:
        if not names:
            _check_source(settings, steps)
        if any("s3" in stack.described[name].depends_on for name in selected):
            _check_object_store(settings, steps)
        if not names:
            for why, missing in _unavailable(stack).items():
                steps.note(f"without {', '.join(missing)}: {why}")
        of_settings = [
            *(dashboard_services(stack.services) if dashboards else []),
            *(job_services(stack.services) if jobs else []),
        ]
        named = [*names, *extra, *of_settings]
        stack.up(selected, LazyArtefacts(ROOT, show=True), steps, named=named)
        steps.rest()
        ready = stack.awaited(selected, named)
        steps.note(f"ready: {', '.join(ready)}")
        if later := [name for name in selected if name not in ready]:
            steps.note(f"still starting: {', '.join(later)}")
        if "capture" in selected:
            announce(settings, steps)
        if "capture" in selected and (why := _broken_stream(settings)):
            steps.note(why)
        elif "connectors" in selected:
            loading.follow(settings, steps, with_silver="silver" in stack.running())


def _check_source(settings: Settings, steps: Steps) -> None:
    """Refuse a source of the user's own that is not ready to be captured."""
    from app.environment.settings import of_each_source
    from app.source.preflight import ensure_ready

    for one in of_each_source(settings):
        if not one.profile.embedded_source:
            steps.waiting(f"checking the source {one.source}".rstrip())
            ensure_ready(one)
            steps.rest()


def _check_object_store(settings: Settings, steps: Steps) -> None:
    """Refuse an object store of the user's own that does not serve."""
    if settings.profile.embedded_s3:
        return
    from app.lake import object_store

    steps.waiting("checking the object store")
    object_store.ensure_ready(settings)
    if settings.profile.embedded_kafka and not (settings.home / "data").exists():
        from app.connectors.stream.restored_stream import refuse_filled_lake
        from app.lake.merged_position import merged_position
        from spark_streaming.storage.lake import Lake

        refuse_filled_lake(settings, merged_position(Lake(settings.store)))
    steps.rest()


def _unavailable(stack: Stack) -> dict[str, list[str]]:
    """Return how to get a missing program → the services that are left out without it."""
    from app.services.binary import how_to_get

    found: dict[str, list[str]] = {}
    for service in stack.unavailable.values():
        found.setdefault(how_to_get(service), []).append(service.name)
    return found


def _broken_stream(settings: Settings) -> str:
    """Return why nothing new comes from the source, with a hint; "" if the stream continues."""
    from app.connectors.stream.stream_state import BROKEN, read_state

    seen = read_state(settings)
    if seen.state != BROKEN:
        return ""
    return f"the capture stands still: {seen.message}\n  detail: {seen.detail}\n  hint: {seen.hint}"
