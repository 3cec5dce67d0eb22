"""The home that a service of our own has in its container: settings and secrets, only the declared ones.

The folder has `settings.toml` without a secret value, and `service_secrets.json` in the place of the
stack's `secrets.json`. `Settings.secret` answers from it and makes nothing there.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from pydantic import SecretStr

from app.environment.dsn import without_secrets
from app.environment.profile import Profile
from app.environment.service_secrets import SERVICE_SECRETS
from app.environment.settings import Settings, write_private

DSNS = ("source_dsn", "capture_dsn")
# Kind of `secrets` in a service.toml → secrets by name, whatever the source is.
NAMED = {
    "connect": ("connect_password",),
    "object-store": ("s3_access_key", "s3_secret_key"),
    "kafka": (),  # brokers in containers ask for none
    "trino": (),  # nor does Trino there
    "openlineage": (),  # a setting of the native stack
    "mask": ("mask_secret",),
    "superset-admin": ("superset_admin_password",),
    "serving": ("serving_db_password", "serving_reader_password"),  # of the stack's own database
}


def write_service_home(
    settings: Settings, folder: Path, kinds: Collection[str], named: Collection[str]
) -> None:
    """Write the home of one service.

    Args:
        settings: those of the whole stack.
        kinds: its `secrets`.
        named: the secrets that its service.toml has as `${secret.NAME}`.
    """
    profile = _without_secrets(settings)
    names = {*named, *(name for kind in kinds for name in _names(kind, profile))}
    values = {name: _value(settings, name) for name in sorted(names)}
    Settings(folder, profile).save()
    write_private(folder / SERVICE_SECRETS, json.dumps(values, indent=1))


def _without_secrets(settings: Settings) -> Profile:
    """The profile without secret values; of a DSN, the address stays."""
    profile = settings.profile
    secret = [name for name in Profile.model_fields if _is_secret(profile, name)]
    changed: dict[str, object] = dict.fromkeys(secret)
    for name in DSNS:
        # The capture role's for a source of one's own is made from the owner's.
        if getattr(profile, name) is not None or not profile.embedded_source:
            changed[name] = SecretStr(without_secrets(getattr(settings, name)))
    if profile.serving_dsn is not None:
        changed["serving_dsn"] = SecretStr(without_secrets(profile.serving_given))
    changed["contracts_dir"] = str(settings.contracts_dir)  # a relative one starts at the home
    return profile.model_copy(update=changed)


def _is_secret(profile: Profile, name: str) -> bool:
    return isinstance(getattr(profile, name), SecretStr)


def _names(kind: str, profile: Profile) -> tuple[str, ...]:
    own = {"source": "source_dsn", "store": "source_dsn", "capture": "capture_dsn"}
    embedded = {name: f"{name}_password" for name in ("store", "capture")}
    embedded["source"] = "postgres_password"
    if kind == "serving" and profile.serving_dsn is not None:
        return ("serving_dsn",)
    if kind not in own:
        return NAMED[kind]
    given = profile.capture_dsn if kind == "capture" else profile.source_dsn
    return (embedded[kind] if given is None else own[kind],)


def _value(settings: Settings, name: str) -> str:
    return str(getattr(settings, name)) if name in DSNS else settings.secret(name)
