"""Services that run more than once: the setting that `instances` names says how often."""

from __future__ import annotations

from collections.abc import Iterator

from app.environment.ports import INSTANCE_STEP, instance_name, service_name
from app.environment.profile import Profile
from app.services.service import Condition, Service, Services, dependency_order


def with_instances(services: Services, profile: Profile) -> dict[str, Service]:
    """Add the further instances that the profile asks for, in dependency order.

    `kafka` with three brokers becomes `kafka`, `kafka-2` and `kafka-3`: one description, with ports of
    their own (and so folders of their own, which go by the name). What depends on a service depends on
    all its instances.
    """
    every = {one.name: one for described in services.values() for one in _each(described, profile)}
    whole = {
        name: one.model_copy(update={"depends_on": _needs(one, services, profile)})
        for name, one in every.items()
    }
    return {name: whole[name] for name in dependency_order(whole)}


def _each(service: Service, profile: Profile) -> Iterator[Service]:
    yield service
    if service.per_source:
        yield from _for_sources(service, profile)
    for number in range(2, _count(service, profile) + 1):
        ports = {
            instance_name(port, number): default + INSTANCE_STEP * (number - 1)
            for port, default in service.ports.items()
        }
        urls = {instance_name(name, number): text for name, text in service.urls.items()}
        name = instance_name(service.name, number)
        yield service.model_copy(
            update={"name": name, "instance": number, "ports": ports, "urls": urls}
        )


def _for_sources(service: Service, profile: Profile) -> Iterator[Service]:
    """One more for each further source; its ports are those of an instance, and its folders go by its name."""
    for number, source in enumerate(profile.sources, start=2):
        ports = {
            instance_name(port, number): default + INSTANCE_STEP * (number - 1)
            for port, default in service.ports.items()
        }
        urls = {instance_name(name, number): text for name, text in service.urls.items()}
        yield service.model_copy(
            update={
                "name": service_name(service.name, source.name),
                "works_for": source.name,
                "instance": number,
                "ports": ports,
                "urls": urls,
            }
        )


def _count(service: Service, profile: Profile) -> int:
    if service.instances is None:
        return 1
    asked = int(profile.value(service.instances))
    # In containers, those that compose has beyond that idle.
    return max(asked, service.container.instances) if profile.in_containers else asked


def _needs(service: Service, services: Services, profile: Profile) -> dict[str, Condition]:
    needs: dict[str, Condition] = {}
    for name, condition in service.depends_on.items():
        if service.works_for and name in services and services[name].per_source:
            needs[service_name(name, service.works_for)] = condition
            continue
        count = _count(services[name], profile) if name in services else 1
        needs |= {instance_name(name, number): condition for number in range(1, count + 1)}
        needs.setdefault(name, condition)
    return needs
