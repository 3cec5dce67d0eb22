"""The secrets in the home of one service in its container: those that it declares."""

from __future__ import annotations

import json
from pathlib import Path

from app.errors import HeadwaterError

SERVICE_SECRETS = "service_secrets.json"


def declared_secret(home: Path, name: str) -> str | None:
    """Return the secret `name` in the home of one service; None if `home` is a whole stack's.

    Raises: HeadwaterError if the service does not declare it.
    """
    path = home / SERVICE_SECRETS
    if not path.exists():
        return None
    declared: dict[str, str] = json.loads(path.read_text())
    if name not in declared:
        raise HeadwaterError(
            f"this service asked for the secret `{name}`, which it does not declare",
            detail=f"{path} has {', '.join(declared) or 'no secret'}",
            hint="add the kind of secret to `secrets` in its service.toml, and start the stack again",
        )
    return declared[name]
