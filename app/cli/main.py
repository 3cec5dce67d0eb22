"""The `headwater` command: adds all verbs, and shows every failure in the same way."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from app.cli import completion
from app.cli.failures import DEBUG, show
from app.cli.status.status import status
from app.cli.verbs import superset
from app.cli.verbs.bronze import app as bronze
from app.cli.verbs.checks import bench, fault, screenshots, test
from app.cli.verbs.data import contract, quarantine, store, streams
from app.cli.verbs.data.demo import demo
from app.cli.verbs.data.read import read
from app.cli.verbs.data.rebuild import rebuild
from app.cli.verbs.data.resume import resume
from app.cli.verbs.data.resync import resync
from app.cli.verbs.data.sql import sql
from app.cli.verbs.data.trace import trace
from app.cli.verbs.data.verify import verify
from app.cli.verbs.data.watch import watch
from app.cli.verbs.erase import erase
from app.cli.verbs.jobs import job
from app.cli.verbs.lineage import lineage
from app.cli.verbs.size import size
from app.cli.verbs.source.detach import detach
from app.cli.verbs.source.preflight import preflight
from app.cli.verbs.source.recover import recover
from app.cli.verbs.stack.backup import backup, restore
from app.cli.verbs.stack.clean import clean
from app.cli.verbs.stack.down import down
from app.cli.verbs.stack.logs import logs
from app.cli.verbs.stack.profile import app as profile
from app.cli.verbs.stack.up import up
from app.cli.verbs.stack.urls import urls
from app.cli.verbs.users import app as users
from app.environment.libpq_variables import remove_variables
from app.environment.loopback import keep_direct

DOCKER = "--docker"
# The verbs that can act on a further source, `--from NAME`.
OF_ONE_SOURCE = (
    "verify", "trace", "erase", "resync", "rebuild", "recover", "resume", "quarantine", "contract", "bronze", "preflight", "detach",
)  # fmt: skip

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
    context: typer.Context,
    debug: bool = typer.Option(False, DEBUG, help="Show the stack trace of a failure."),
    docker: bool = typer.Option(
        False, DOCKER, help="Act on the stack in containers (see `--docker --help`)."
    ),
    version: bool = typer.Option(False, "--version", help="Print the version."),
    of: str = typer.Option(
        None,
        "--from",
        metavar="NAME",
        help="Act on this further source of the home (`[[sources]]`).",
    ),
) -> None:
    """Real-time CDC lakehouse: Postgres to SQL on Delta Lake, in about a second."""
    if of is not None:
        if context.invoked_subcommand not in OF_ONE_SOURCE:
            raise typer.BadParameter(
                f"`{context.invoked_subcommand}` acts on the whole home; --from goes with "
                f"{', '.join(OF_ONE_SOURCE)}"
            )
        from app.environment.settings import ONE_SOURCE

        os.environ[ONE_SOURCE] = of


# In the order of the help.
# fmt: off
VERBS = (
    up, down, status, logs, urls, clean, backup, restore,
    demo, sql, verify, watch, preflight, profile, detach, resume, trace, lineage, rebuild, resync, recover, erase,
    bronze, contract.app, quarantine.app, streams.app, job.app, read, store.app, users,
    superset.app, size,
    test, bench, fault, screenshots,
    completion.completion,
)
# fmt: on
for verb in VERBS:
    if isinstance(verb, typer.Typer):
        app.add_typer(verb)
    else:
        app.command()(verb)


def main() -> NoReturn:
    """Run one command; a failure ends in one message on stderr and exit code 1."""
    keep_direct(os.environ)
    remove_variables(os.environ)
    arguments = sys.argv[1:]
    debug = DEBUG in arguments or bool(os.environ.get("HEADWATER_DEBUG"))
    # Accepted in any place, because a user who sees a failure appends it to the command.
    sys.argv[1:] = [word for word in arguments if word != DEBUG]
    try:
        if DOCKER in sys.argv[1:]:
            from app.cli.verbs.docker import run_docker

            sys.exit(run_docker([word for word in sys.argv[1:] if word != DOCKER]))
        if completion.is_asked():
            completion.prepare()
        app(prog_name="headwater")
    except BrokenPipeError:
        # The reader (`| head`) has closed the pipe; Python must print no error at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:  # noqa: BLE001 - the one place where every failure is shown
        show(error, debug=debug)
        sys.exit(1)
    sys.exit(0)
