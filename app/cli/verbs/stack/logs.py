"""`headwater logs`: the last lines of a service's output, printed, followed or sent."""

from __future__ import annotations

import sys
import time

import typer

from app.cli import completion
from app.cli.needs import open_stack

FOLLOW_POLL_S = 0.2


def logs(
    service: str = typer.Argument(
        help="A service, or `supervisor`.", autocompletion=completion.services_and_supervisor
    ),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on as lines come."),
    lines: int = typer.Option(50, "--lines", "-n", min=0, help="How many lines of each file."),
    send: bool = typer.Option(
        False, "--send", help="Send them to lake.silver.app_logs in place of printing them."
    ),
) -> None:
    """Print the last lines of a service's output.

    Examples:
      ./headwater logs silver
      ./headwater logs connect --follow --lines 200
    """
    from app.processes import log_files as files

    paths = open_stack().log_files(service)
    if send:
        from app.cli.verbs.data.streams import send_lines

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
            text, offsets[path] = files.grown(path, offsets[path])
            if text:
                sys.stdout.write(text)
                sys.stdout.flush()
        time.sleep(FOLLOW_POLL_S)
