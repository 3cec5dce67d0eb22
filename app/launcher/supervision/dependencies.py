"""Which service waits for which: pure, from the states of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from app.launcher.supervision.unit import FIRST, Unit
from app.services.service import Condition, Services


def blocker(
    unit: Unit, units: Mapping[str, Unit], wanted: Collection[str], services: Services
) -> str:
    """Return the service that this one has to wait for, with its state; empty for none."""
    unmet = unmet_dependency(unit, units, wanted, services)
    if unmet or unit.service.awaited or unit.ever_ready:
        return unmet
    return _awaited_first(unit.service.name, units, wanted)


def unmet_dependency(
    unit: Unit, units: Mapping[str, Unit], wanted: Collection[str], services: Services
) -> str:
    """Return the first dependency that is not met, with its state; empty if all are met."""
    for name, condition in services[unit.service.name].depends_on.items():
        needed = units.get(name)
        if needed is None or (name not in wanted and not needed.alive):
            continue  # its `when` leaves it out of this stack
        if not _met(needed, condition):
            return f"{name} ({needed.state})"
    return ""


def living_dependents(name: str, units: Mapping[str, Unit]) -> list[str]:
    """Return the units that depend on `name`, directly or through others, and have a process."""
    return [other for other in _dependents(name, units) if units[other].alive]


def _dependents(name: str, units: Mapping[str, Unit]) -> list[str]:
    dependents: list[str] = []
    for other, unit in units.items():
        if name in unit.service.depends_on:
            dependents += [other, *_dependents(other, units)]
    return list(dict.fromkeys(dependents))


def _awaited_first(name: str, units: Mapping[str, Unit], wanted: Collection[str]) -> str:
    """Return an awaited service that is starting for the first time; empty if there is none.

    Services that nobody waits for start after it, so that it has the processors. One that depends
    on `name` does not count: it cannot start before.
    """
    others = set(wanted).difference(_dependents(name, units))
    awaited = [unit for other, unit in units.items() if other in others and unit.service.awaited]
    if any(unit.state in ("backoff", "failed") for unit in awaited):
        return ""
    starting = [unit for unit in awaited if unit.state in FIRST and not unit.ever_ready]
    return f"{starting[0].service.name} ({starting[0].state})" if starting else ""


def _met(needed: Unit, condition: Condition) -> bool:
    if condition == "completed":
        return needed.state == "completed"
    if condition == "started":
        return needed.state in ("starting", "ready", "completed")
    return needed.state in ("ready", "completed")
