"""`headwater streams`: which events the intake accepts, its address and token; and sending logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_object, print_rows

COLUMNS = ("stream", "table", "topic", "retention_days", "max_mb", "columns")
LINE_BYTES_GUESSED = 400
SEND_S = 60.0

app = typer.Typer(
    name="streams",
    help="Logs and messages by API: the declared streams, and the way in.",
    no_args_is_help=True,
)


@app.command("list")
def list_streams(fmt: Format = FORMAT_OPTION) -> None:
    """List the declared streams with their tables, topics and columns.

    Examples:
      ./headwater streams list

    Exit codes:
      0  Every file is right.
      1  One is wrong; stderr says which.
    """
    from app.environment.settings import load
    from spark_streaming.streams.stream_contract import read_streams, stream_folders

    settings = load()
    paths = os.pathsep.join(map(str, settings.contracts_folders))
    streams, problems = read_streams(stream_folders(paths))
    rows = [
        (
            name,
            f"lake.silver.{name}",
            stream.topic(settings.topic_prefix),
            stream.contract.retention_days,
            stream.contract.max_mb,
            ", ".join(f"{n} {c.type}" for n, c in stream.contract.columns.items()),
        )
        for name, stream in sorted(streams.items())
    ]
    print_rows(COLUMNS, rows, fmt)
    for problem in problems:
        print(problem, file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


@app.command("login")
def login(fmt: Format = FORMAT_OPTION) -> None:
    """Print the intake's address and the token that was generated for it.

    Examples:
      ./headwater streams login
    """
    from app.environment.settings import load

    settings = load()
    url = settings.ports.published_url("intake")
    print_object({"url": url, "token": settings.secret("intake_token")}, fmt)


def send_lines(service: str, paths: list[Path], lines: int) -> int:
    """Send the last lines of log files to the stream `app_logs`; returns how many.

    Lines that were sent before, also by the service `log-sender`, are the same events: silver has
    each once. Raises: HeadwaterError if the intake does not take them.
    """
    from datetime import datetime, timezone

    from app.environment.settings import load
    from app.errors import HeadwaterError
    from app.intake.client import BATCH_EVENTS_MAX, Intake, IntakeError
    from app.intake.log_lines import last_lines, line_events
    from app.intake.sender import LOGS

    require("intake")
    settings = load()
    intake = Intake(settings.intake_url, settings.secret("intake_token"), LOGS)
    events = []
    span = max(65_536, lines * LINE_BYTES_GUESSED)
    for path in paths:
        if not path.exists():
            continue
        found = last_lines(path, max(0, path.stat().st_size - span), span).lines[-lines:]
        now = datetime.now(timezone.utc)
        events += list(line_events(service, path.stem, found, None, now))
    try:
        for start in range(0, len(events), BATCH_EVENTS_MAX):
            intake.post(events[start : start + BATCH_EVENTS_MAX], SEND_S)
    except IntakeError as error:
        raise HeadwaterError(
            "the logs were not sent", detail=str(error), hint="see `./headwater status intake`"
        ) from error
    return len(events)
