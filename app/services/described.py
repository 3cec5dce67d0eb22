"""The services of a stack: the descriptions, adjusted to the profile."""

from __future__ import annotations

from pathlib import Path

from app.environment.profile import Profile
from app.services.description_parts import Encrypted
from app.services.instances import with_instances
from app.services.service import Service, Services, load_services


def services_of(root: Path, profile: Profile) -> Services:
    """Return the services below `root` as they run under this profile, each instance for itself."""
    services = load_services(root)
    if profile.encryption:
        services = {name: _with(service, service.encrypted) for name, service in services.items()}
    if profile.signed:
        services = {name: _with(service, service.signed) for name, service in services.items()}
    return with_instances(services, profile)


def _with(service: Service, own: Encrypted | None) -> Service:
    if own is None:
        return service
    return service.model_copy(
        update={
            "append": {**service.append, **own.append},
            "files": {**service.files, **own.files},
            "environment": {**service.environment, **own.environment},
            "alive": own.alive or service.alive,
        }
    )
