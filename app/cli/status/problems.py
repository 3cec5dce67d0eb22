"""Finds a stack's problems: the lines that `status` prints after those of the services.

To report something new, add a `Check` to CHECKS. A check observes one service and returns problems (`app/health`);
its exceptions become a line of their own. All checks run at the same time, and none
is waited for longer than CHECK_S.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import HeadwaterError
from app.health.problem import Problem, one_line

if TYPE_CHECKING:
    from app.environment.settings import Settings
    from app.launcher.observed_status import Row
    from spark_streaming.ops.incident_rows import Incident

CHECK_S = 15.0  # on a busy machine the clients' modules alone take seconds to load
TABLES_SHOWN = 5
SILENT_S = 20.0  # a supervisor writes a sign of life every second
GOOD_STATES = ("ready", "completed", "stopped", "unavailable", "waiting", "preparing", "starting")


def connectors(settings: Settings) -> list[Problem]:
    """Report connectors that carry nothing."""
    from app.health.connector_health import ConnectWorkers, ask

    return ask(ConnectWorkers.of(settings))


def source(settings: Settings) -> list[Problem]:
    """Report tables that are not captured, and a replication slot that nobody reads."""
    from app.connectors.uncaptured_tables import source_problems

    return source_problems(settings)


def silver(settings: Settings) -> list[Problem]:
    """Report tables that silver has stopped, and events that wait."""
    from app.lake.stopped_tables import silver_problems

    return silver_problems(settings)


def disk(settings: Settings) -> list[Problem]:
    """Report disks of the home that are full or soon will be."""
    from app.health.disk import disk_problems, disks

    return disk_problems(disks(settings.home))


def gaps(settings: Settings) -> list[Problem]:
    """Report tables that are read again because the stream missed changes; `capture` reports a broken stream itself."""
    return [gap_problem(one) for one in _open_incidents(settings, "gap") if one.lsn_to is not None]


def gap_problem(gap: Incident) -> Problem:
    """The problem of a gap whose tables are being read again."""
    shown = ", ".join(gap.tables[:TABLES_SHOWN]) or "all tables"
    more = len(gap.tables) - TABLES_SHOWN
    cause = (
        f"the stream missed changes ({gap.opened_at:%Y-%m-%d %H:%M:%S} UTC); until they are read again, these "
        f"tables may differ from the source: {shown}" + (f" and {more} more" if more > 0 else "")
    )
    hint = f"`./headwater verify` when the incident {gap.id} in ops.incidents is closed"
    return Problem("silver", "reading again", cause, hint)


def lineage(settings: Settings) -> list[Problem]:
    """Report a receiver of lineage that takes no events."""
    if settings.profile.openlineage_url is None:
        return []
    from app.lineage.event_sender import INCIDENT

    hint = "./headwater profile check FILE; the lake's own lineage goes on"
    return [
        Problem("openlineage", "not taken", one.cause, hint)
        for one in _open_incidents(settings, INCIDENT)
    ]


def _open_incidents(settings: Settings, kind: str) -> list[Incident]:
    from spark_streaming.ops.incident_rows import OPEN
    from spark_streaming.ops.incident_table import IncidentLog
    from spark_streaming.storage.lake import Lake

    incidents = IncidentLog(Lake(settings.store))
    incidents.refresh()
    return incidents.incidents(state=OPEN, kind=kind)


def supervisor(settings: Settings) -> list[Problem]:
    """Report a supervisor that hangs: it restarts nothing, and its state of the services is old."""
    from app.launcher.state import Home

    silent_s = Home(settings.home).silent_s()
    if silent_s < SILENT_S:
        return []
    cause = f"it has not gone on for {silent_s:.0f} s: what `status` says of services is as old"
    hint = "`./headwater down` ends it with its services, then `./headwater up`"
    return [Problem("supervisor", "unresponsive", cause, hint)]


@dataclass(frozen=True)
class Check:
    """A check that runs if the service `needs` is running; with an empty `needs`, if any service is."""

    part: str
    needs: str
    ask: Callable[[Settings], list[Problem]]


CHECKS = (
    Check("connectors", "connect", connectors),
    Check("source", "connectors", source),
    Check("silver", "silver", silver),
    Check("gaps", "s3", gaps),
    Check("disk", "", disk),
    Check("openlineage", "s3", lineage),
    Check("supervisor", "", supervisor),
)


def find_problems(
    settings: Settings, running: Collection[str], checks: Sequence[Check] = CHECKS
) -> list[Problem]:
    """The problems, in the order of the checks; a part that does not answer is `not known`.

    Args:
        running: the services that are asked to run.
        checks: those of the home; the further sources' come after them.
    """
    checks = [*checks, *_of_further_sources(settings)]
    asked = [one for one in checks if (one.needs in running if one.needs else running)]
    answers: dict[str, list[Problem]] = {}
    threads = [
        threading.Thread(target=_answer, args=(check, settings, answers), daemon=True)
        for check in asked
    ]
    for thread in threads:
        thread.start()
    late = threading.Event()
    timer = threading.Timer(CHECK_S, late.set)
    timer.daemon = True
    timer.start()
    for thread in threads:
        while thread.is_alive() and not late.is_set():
            thread.join(0.05)
    timer.cancel()
    silent = f"no answer within {CHECK_S:g} s"
    found: list[Problem] = []
    for check in asked:
        found += answers.get(check.part, [Problem(check.part, "not known", silent)])
    return found


def _of_further_sources(settings: Settings) -> list[Check]:
    """The checks of a source and of its silver, once for each further source."""

    def of(name: str, ask: Callable[[Settings], list[Problem]]) -> list[Problem]:
        from app.environment.settings import of_source

        return [one._replace(part=f"{name}: {one.part}") for one in ask(of_source(settings, name))]

    from app.environment.ports import service_name

    return [
        Check(
            f"{one.name}: {part}",
            service_name(service, one.name),
            lambda _, name=one.name, ask=ask: of(name, ask),  # type: ignore[misc]
        )
        for one in settings.profile.sources
        for part, service, ask in (("source", "connectors", source), ("silver", "silver", silver))
    ]


def _answer(check: Check, settings: Settings, answers: dict[str, list[Problem]]) -> None:
    try:
        answers[check.part] = check.ask(settings)
    except HeadwaterError as error:
        cause = ": ".join(part for part in (error.message, error.detail) if part)
        answers[check.part] = [
            Problem(check.part, "not known", one_line(cause), one_line(error.hint))
        ]
    except Exception as error:  # noqa: BLE001 - whatever a part raises is reported as its problem
        first = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        answers[check.part] = [Problem(check.part, "not known", one_line(first))]


def of_services(rows: Sequence[Row]) -> list[Problem]:
    """Report the services that are not well, by the supervisor's state."""
    return [
        Problem(row.service, row.state, one_line(row.last_error), one_line(row.hint))
        for row in rows
        if row.state not in GOOD_STATES
    ]


def as_rows(problems: Sequence[Problem]) -> list[Row]:
    """Return problems as rows of `status`, for machines."""
    from app.launcher.observed_status import Row

    return [
        Row(one.part, one.state, None, "", None, None, 0, one.cause, one.hint) for one in problems
    ]


def print_problems(problems: Sequence[Problem]) -> None:
    """Print each problem with its cause and the next step, on stdout."""
    print(f"\nnot well: {len(problems) or 'nothing'}")
    for one in problems:
        print(f"  {one.part}: {one.state}: {one.cause}")
        if one.hint:
            print(f"    hint: {one.hint}")
