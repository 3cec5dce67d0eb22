"""The stack's settings as pods get them: no secret is known here, only its name.

Two Secrets hold all of them; `python -m app.deploy home` writes their content.

    headwater-home        settings.toml and secrets.json, as programs of `app` read them
    headwater-variables   the variables that hold secrets, by their names
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from app.artefacts.dist import Artefacts
from app.containers.container_config import ImageArtefacts, InContainer
from app.deploy.kubernetes.cluster_values import SECRET_KEYS, Cluster
from app.environment.profile import Profile
from app.environment.secret_variables import SECRETS
from app.environment.settings import ROOT, Settings, checked, write_private
from app.errors import HeadwaterError
from app.services.service import Service, Services, declared_ports, load_services
from app.services.templates import Variables, render

HOME = Path("/etc/headwater")
CODE = Path("/opt/headwater/code")
HOME_SECRET = "headwater-home"
VARIABLES_SECRET = "headwater-variables"
ENVIRONMENT = "headwater-environment"
SOURCE = "postgresql://owner@source/database"  # a placeholder for the address, which is a secret
_WHOLE_SECRET = re.compile(r"\$\{secret\.(\w+)\}")


class InCluster(Settings):
    """Settings that make no secrets and hold none."""

    def secret(self, name: str) -> str:
        return SOURCE if name == "source_dsn" else f"secret-{name}"


class Pods:
    """What each service's pod is started with."""

    def __init__(self, cluster: Cluster, root: Path = ROOT) -> None:
        self.cluster = cluster
        self.services: Services = load_services(root)
        self.ports = declared_ports(self.services)
        given = {**cluster.profile_keys(), "source_dsn": SOURCE}
        self.settings = InCluster(HOME, Profile.model_validate(given))
        self._locked = Artefacts(root)
        self._root = root

    def plain_environment(self) -> dict[str, str]:
        """The variables of all pods that hold no secret."""
        return self.settings.environment(())

    def secret_variables(self, service: Service) -> list[str]:
        """The variables that hold the secrets that a service declares, and no others."""
        declared = [name for kind in service.secrets for name in SECRETS[kind]]
        own = [name for name, text in service.environment.items() if _WHOLE_SECRET.fullmatch(text)]
        return [*declared, *own]

    def own_environment(self, service: Service) -> dict[str, str]:
        """The variables of a service alone that hold no secret."""
        hidden = self.secret_variables(service)
        return {
            name: self.rendered(service, text)
            for name, text in service.environment.items()
            if name not in hidden
        }

    def command(self, service: Service) -> list[str]:
        """What the pod runs, as service.toml says it."""
        return [self.rendered(service, word) for word in service.command]

    def number(self, service: Service, port: str) -> int:
        """A port's number here."""
        return int(self.rendered(service, f"${{port.{port}}}"))

    def rendered(self, service: Service, text: str) -> str:
        """A template of a service, with this cluster's addresses."""
        places = InContainer(HOME / "run" / service.name, Path(service.container.data))
        lookup = Variables(
            settings=self.settings,
            artefacts=ImageArtefacts(service.container, self._locked),
            ports=self.ports,
            places=places,
            service=service,
            folder=CODE / service.folder.relative_to(self._root),
            root=CODE,
            python=Path("python"),
        )
        return render(text, lookup, where=f"{service.source} (service `{service.name}`)")


def write_home(cluster: Cluster, folder: Path, secrets: dict[str, str | None]) -> list[str]:
    """Write the content of both Secrets into `folder` (files of mode 0600), the stack's own secrets made.

    Args:
        secrets: key of a profile → value; None if it was not given.
    Returns: the commands that put them into the cluster.
    Raises: HeadwaterError if one is missing.
    """
    given = {name: value for name, value in secrets.items() if value}
    missing = [key for key in SECRET_KEYS if key not in given and key != "capture_dsn"]
    if missing:
        names = ", ".join(f"HEADWATER_{key.upper()}" for key in missing)
        raise HeadwaterError("secrets are missing", hint=f"set {names}")
    values: dict[str, Any] = {**cluster.profile_keys(), **given}
    settings = checked(folder, values, origin="the cluster's file and HEADWATER_*")
    variables = settings.environment()
    hidden = {name: variables[name] for names in SECRETS.values() for name in names}
    for service in load_services(ROOT).values():
        for name, text in service.environment.items():
            whole = _WHOLE_SECRET.fullmatch(text)
            if whole and name.startswith("HEADWATER_"):
                hidden[name] = settings.secret(whole.group(1))
    settings.save()
    lines = "".join(f"{name}={value}\n" for name, value in sorted(hidden.items()))
    write_private(folder / "variables.env", lines)
    create = f"kubectl --namespace {cluster.namespace} create secret generic"
    return [
        f"{create} {HOME_SECRET} --from-file={folder}/settings.toml --from-file={folder}/secrets.json",
        f"{create} {VARIABLES_SECRET} --from-env-file={folder}/variables.env",
    ]
