"""`./headwater --docker VERB`: the same verbs on the compose stack.

`up`, `down`, `status`, `logs`, `urls` and `demo` ask Docker Compose; every other verb runs as it is
in a container beside the stack (the compose service `headwater`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.given import given_source
from app.cli.needs import named_services
from app.cli.options import FORMAT_OPTION
from app.errors import HeadwaterError
from app.printing import Format, print_object, print_rows

if TYPE_CHECKING:
    from app.containers.compose import Compose

# They need the clone and its development environment.
NATIVE_ONLY = ("clean", "test", "bench", "fault", "screenshots")
COLUMNS = ("service", "state", "health", "exit_code", "status", "ports", "container")

docker_app = typer.Typer(
    name="headwater --docker",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run_docker(arguments: list[str]) -> int:
    """Run one command line that held `--docker` (which is left out here); returns the exit code."""
    verb = next((word for word in arguments if not word.startswith("-")), None)
    own = {
        command.callback.__name__ for command in docker_app.registered_commands if command.callback
    }
    if verb is None or verb in own:
        docker_app(arguments, prog_name="headwater --docker")
        return 0
    if verb in NATIVE_ONLY:
        raise HeadwaterError(
            f"`{verb}` runs natively only",
            hint="the proof of the containers is: ./headwater test containers",
        )
    if arguments[:2] == ["superset", "export"]:
        raise HeadwaterError(
            "`superset export` writes to the clone, which a container does not see",
            hint="export from a native stack",
        )
    return run_verb(arguments)


def run_verb(arguments: list[str]) -> int:
    """Run a verb on data in a container beside the stack; returns its exit code."""
    from app.containers.compose import VERBS

    compose = open_compose()
    if not compose.is_up():
        raise HeadwaterError("the containers are not running", hint="./headwater --docker up")
    # No terminal: stdout stays data, and stderr apart from it.
    return compose.run("--progress", "quiet", "run", "--rm", "--no-deps", "-T", VERBS, *arguments)


def open_compose() -> Compose:
    """The compose project of HEADWATER_HOME, or the clone's own."""
    from app.containers.compose import Compose

    home = os.environ.get("HEADWATER_HOME")
    return Compose(Path(home) if home else None)


@docker_app.command()
def up(
    more: list[str] = typer.Argument(None, metavar="[SERVICE]...", help="With --only: more names."),
    source: str = typer.Option(
        None, "--source", help="Capture this Postgres (postgresql://…) in place of the demo store."
    ),
    apply: bool = typer.Option(
        None, "--apply", help="Run the missing statements of preflight in your database."
    ),
    profile: str = typer.Option(
        None, "--profile", help="One of core, dashboards or full; kept for later commands."
    ),
    only: list[str] = typer.Option(
        [], "--only", help="Start these services and their dependencies: --only verifier intake."
    ),
    jobs: bool = typer.Option(
        None, "--jobs/--no-jobs", help="Run jobs, with Dagster and a serving database; kept too."
    ),
    port_offset: int = typer.Option(
        None, "--port-offset", help="Add this to every port on this machine; kept too."
    ),
) -> None:
    """Build missing images, start the containers, and wait until they are healthy.

    Examples:
      ./headwater --docker up
      ./headwater --docker up --profile full --jobs
    """
    from app.containers.compose import PROFILES, check_services, check_source
    from app.environment.settings import ROOT
    from app.services.service import declared_ports, load_services

    names = named_services(only, more)
    compose = open_compose()
    check_services(names)
    changes: dict[str, str] = {}
    if (given := given_source(source)) is not None:
        check_source(given)
        changes["HEADWATER_SOURCE_DSN"] = given
    if apply is not None:
        changes["HEADWATER_APPLY"] = "1"
    if profile is not None and profile not in PROFILES:
        raise typer.BadParameter(f"profiles are {', '.join(PROFILES)}")
    if profile is not None or "COMPOSE_PROFILES" not in compose.environment():
        changes["COMPOSE_PROFILES"] = profile or PROFILES[0]
    if jobs is not None:
        changes["HEADWATER_JOBS"] = "true" if jobs else ""
    kept = {**compose.environment(), **changes}
    belong = {"hive": kept.get("HEADWATER_METASTORE") == "hive", "jobs": kept.get("HEADWATER_JOBS")}
    chosen = [one for one in kept["COMPOSE_PROFILES"].split(",") if one not in belong]
    changes["COMPOSE_PROFILES"] = ",".join([*chosen, *(one for one in belong if belong[one])])
    if port_offset is not None:
        ports = declared_ports(load_services(ROOT))
        changes.update(
            {f"HEADWATER_PORT_{k.upper()}": f"{v + port_offset}" for k, v in ports.items()}
        )
    compose.set_environment(changes)
    start(compose, names)


def start(compose: Compose, names: Sequence[str] = ()) -> None:
    """Bring the project up, or these services; HeadwaterError with the output of the failed ones."""
    # A service that is named is started whatever profile it is in.
    if compose.run("up", "--build", "--wait", "--remove-orphans", *names) != 0:
        raise HeadwaterError(
            "not every container became healthy",
            detail=compose.failures(),
            hint="see `./headwater --docker status` and `./headwater --docker logs SERVICE`",
        )
    print("ready", file=sys.stderr)


@docker_app.command()
def down(
    wipe: bool = typer.Option(False, "--wipe", help="Also remove the volumes, with all data."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask before --wipe."),
) -> None:
    """Stop and remove the containers; the volumes stay.

    Examples:
      ./headwater --docker down
      ./headwater --docker down --wipe --yes
    """
    from app.cli.verbs.source.detach import OPTIONS, detach_command
    from app.cli.verbs.stack.down import slot_note
    from app.environment.profile import Profile

    compose = open_compose()
    given = compose.environment()
    if wipe and not yes and sys.stdin.isatty():
        typer.confirm(f"Remove all volumes of {compose.project}?", abort=True, err=True)
    code = compose.run(
        "--profile", "*", "down", "--remove-orphans", *(["--volumes"] if wipe else [])
    )
    if dsn := given.get("HEADWATER_SOURCE_DSN"):
        slot = given.get("HEADWATER_SLOT_NAME") or Profile.model_fields["slot_name"].default
        names = {key: given.get(f"HEADWATER_{key.upper()}") or "" for key in OPTIONS.values()}
        command = detach_command(dsn, {key: name for key, name in names.items() if name})
        print(slot_note(wipe, slot, command), file=sys.stderr)
    raise typer.Exit(code)


@docker_app.command()
def status(
    service: list[str] = typer.Argument(None, help="Only these services."),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Show each container: state, health, exit code, ports.

    Examples:
      ./headwater --docker status
    """
    rows = []
    for one in open_compose().containers():
        if service and one["Service"] not in service:
            continue
        ports = sorted(
            {str(p["PublishedPort"]) for p in one.get("Publishers") or [] if p["PublishedPort"]}
        )
        health = one.get("Health") or ""
        told = (one["Service"], one["State"], health, one["ExitCode"], one["Status"])
        rows.append((*told, " ".join(ports), one["Name"]))
    print_rows(COLUMNS, rows, fmt)


@docker_app.command()
def logs(
    service: str = typer.Argument(help="A service."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on as lines come."),
    lines: int = typer.Option(50, "--lines", "-n", min=0, help="How many lines."),
) -> None:
    """Print the last lines of a container's output.

    Examples:
      ./headwater --docker logs silver
    """
    options = ["--follow"] if follow else []
    code = open_compose().run("logs", "--no-log-prefix", *options, "--tail", str(lines), service)
    raise typer.Exit(code)


@docker_app.command()
def urls(fmt: Format = FORMAT_OPTION) -> None:
    """Print where to reach each part.

    Examples:
      ./headwater --docker urls
    """
    print_object(open_compose().urls(), fmt)


@docker_app.command()
def demo(
    once: bool = typer.Option(
        False, "--once", help="For machines: exit 0 only if every hop was seen; then stop."
    ),
) -> None:
    """Start the containers, edit a row of the movie store and show it at every hop.

    Examples:
      ./headwater --docker demo --once
    """
    from app.processes.interrupts import terminated_like_interrupted

    compose = open_compose()
    if compose.environment().get("HEADWATER_SOURCE_DSN"):
        raise HeadwaterError(
            "the demo edits its own movie store, and these containers capture your database",
            hint="run it in a home of its own: HEADWATER_HOME=~/demo ./headwater --docker demo",
        )
    was_up = compose.is_up()
    with terminated_like_interrupted():
        try:
            compose.set_environment({})
            start(compose)
            code = run_verb(["demo", "--running", *(["--once"] if once else [])])
        finally:
            if once or not was_up:
                compose.run("--profile", "*", "down")
                print("stopped; the volumes are kept", file=sys.stderr)
    raise typer.Exit(code)
