"""The stack's own accounts in a Trino that asks for passwords: one for each part that asks it something."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from app.environment.settings import Settings

# The command line's, and that of a tool without a service.
COMMANDS = "headwater"
REGISTRAR = "registrar"
# Signs in for the viewers of its charts, and queries in the name of each.
SUPERSET = "superset"
PROMETHEUS = "prometheus"
# Asks for the number of the newest question, and reads nothing.
AUDIT = "audit"
# Service → account. Others ask Trino nothing.
SERVICE_ACCOUNTS = {
    "tables": REGISTRAR,
    "metrics": "exporter",
    "verifier": "verifier",
    "app": "page",
    "jobs-code": "jobs",
    "superset-assets": SUPERSET,
    "prometheus": PROMETHEUS,
    "streams": AUDIT,
}
ACCOUNTS = (COMMANDS, *dict.fromkeys(SERVICE_ACCOUNTS.values()))
# Accounts that see every row and column unmasked; people who see their results sign in elsewhere.
UNMASKED = tuple(name for name in ACCOUNTS if name not in (SUPERSET, PROMETHEUS, AUDIT))


def account_of(service: str) -> str:
    """Return the account by which Trino knows a service."""
    return SERVICE_ACCOUNTS.get(service, COMMANDS)


def password_name(account: str) -> str:
    """Return the name of the secret that is the account's password."""
    return f"trino_{account}_password"


def trino_url_of(settings: Settings, account: str = COMMANDS, password: str | None = None) -> str:
    """Return the URL of the stack's own Trino for an account, with its password if Trino needs one.

    Args:
        account, password: another pair is a person's.
    """
    address = settings.ports.address("trino")
    if not settings.profile.signed:
        return f"{settings.trino_http}://{address}"
    secret = settings.secret(password_name(account)) if password is None else password
    return f"{settings.trino_http}://{quote(account, safe='')}:{quote(secret, safe='')}@{address}"
