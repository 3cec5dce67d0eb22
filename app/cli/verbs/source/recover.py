"""`headwater recover`: explains why a stream cannot continue, and repairs it."""

from __future__ import annotations

import sys

import typer

from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format, Steps, print_object

BROKEN = 1


def recover(
    apply: bool = typer.Option(
        False, "--apply", "--yes", help="Do it; without this nothing is changed."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Repair a stream that cannot continue because its slot is gone or its server was restored.

    Shows the cause and the planned repair; with `--apply` it carries it out.

    Examples:
      ./headwater recover
      ./headwater recover --apply

    Exit codes:
      0  The stream continues. 1 It is broken, or its state is unknown.
    """
    require("postgres", "kafka", "s3", "connect")

    from app.capture.recovery import locked_session, plan_of
    from app.capture.recovery import recover as bring_back
    from app.connectors.worker import Worker
    from app.environment.settings import Settings, load
    from app.lake.lakehouse import Lakehouse
    from app.source.preflight import ensure_ready
    from spark_streaming.ops.incident_table import IncidentLog

    settings = load()
    lake = Lakehouse(settings).lake
    worker = Worker(*settings.connect_urls)
    if apply:
        may = settings.profile.model_copy(update={"apply": True})
        with Steps() as steps:
            steps.waiting("recover: checking the source")
            ensure_ready(Settings(settings.home, may))
            steps.waiting("recover: bringing the stream back")
            done = bring_back(settings, worker, IncidentLog(lake), lake, steps.note)
        state = "flows" if done is None else "recovered"
        print_object({"state": state, "kind": done.broken.kind if done else None}, fmt)
        return
    with Steps() as steps, locked_session(settings) as connection:
        steps.waiting("recover: comparing the source, its slot and what was captured")
        plan = plan_of(settings, worker, connection, lake)
    if plan is None:
        print_object({"state": "flows"}, fmt)
        return
    print_object(plan.to_plain(), fmt)
    print("nothing was changed; to do it: headwater recover --apply", file=sys.stderr)
    raise typer.Exit(BROKEN)
