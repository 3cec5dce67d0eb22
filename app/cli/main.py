"""The `headwater` command: mounts the verbs, and shows every failure in one way."""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import NoReturn

import typer

from app.cli import checks, dashboards, data, readers, stack
from app.errors import HeadwaterError
from app.loopback import keep_direct

DEBUG = "--debug"
DOCKER = "--docker"

app = typer.Typer(
    name="headwater",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def headwater(
    debug: bool = typer.Option(False, DEBUG, help="Show the stack trace of a failure."),
    docker: bool = typer.Option(
        False, DOCKER, help="Act on the stack in containers (see `--docker --help`)."
    ),
) -> None:
    """Real-time CDC lakehouse: Postgres to SQL on Delta Lake, in about a second."""


stack.mount(app)
data.mount(app)
readers.mount(app)
dashboards.mount(app)
checks.mount(app)


def main() -> NoReturn:
    """Run one command; a failure ends in one message on stderr and exit code 1."""
    keep_direct(os.environ)
    arguments = sys.argv[1:]
    debug = DEBUG in arguments or bool(os.environ.get("HEADWATER_DEBUG"))
    # It may stand anywhere: who sees a failure appends it to the command.
    sys.argv[1:] = [word for word in arguments if word != DEBUG]
    try:
        if DOCKER in sys.argv[1:]:
            from app.cli.docker import run_docker

            sys.exit(run_docker([word for word in sys.argv[1:] if word != DOCKER]))
        app(prog_name="headwater")
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python must not complain while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:  # noqa: BLE001 - the one place where every failure is shown
        show(error, debug=debug)
        sys.exit(1)
    sys.exit(0)


def show(error: Exception, *, debug: bool) -> None:
    """Print a failure on stderr: what failed, what was observed, what to do."""
    if debug:
        traceback.print_exception(error)
        return
    from app.settings import SettingsError

    if isinstance(error, OSError) and "S3 error" in str(error):
        # delta-rs tells it as a tree in colours; the last branch is what happened.
        last = re.sub(r"\x1b\[\d*m|↳", "", str(error)).strip().splitlines()[-1].strip()
        error = HeadwaterError(
            "the object store does not answer", detail=last, hint="see `./headwater status s3`"
        )
    if isinstance(error, (HeadwaterError, SettingsError)):
        text = str(error).replace("\nhint:", "\n  hint:")
    else:
        text = (
            f"unexpected {type(error).__name__}: {error}\n"
            f"  hint: this is a defect; run it again with {DEBUG} and report what it prints"
        )
    print(text, file=sys.stderr)
