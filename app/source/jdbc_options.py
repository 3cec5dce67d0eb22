"""Translates a DSN's other options from libpq to the connector's Java driver."""

from __future__ import annotations

from app.source.database import options_of

# libpq's name → the driver's; their values are the same.
_SAME = {
    "connect_timeout": "connectTimeout",
    "channel_binding": "channelBinding",
    "require_auth": "requireAuth",
    "sslnegotiation": "sslNegotiation",
    "options": "options",
}
# Debezium needs the primary, whatever the DSN asks for.
_SERVERS = {"read-write": "primary", "primary": "primary"}


def connector_options(dsn: str) -> dict[str, str]:
    """Return Debezium's `database.…` properties for a DSN, without address and encryption.

    Raises: HeadwaterError if the text is not a DSN.
    """
    options = options_of(dsn)
    found = {
        f"database.{theirs}": str(options[ours])
        for ours, theirs in _SAME.items()
        if options.get(ours)
    }
    server = _SERVERS.get(str(options.get("target_session_attrs") or ""))
    return found | ({"database.targetServerType": server} if server else {})
