"""Completes the address of a source that a user gives to a URL that works for every service.

Users give a URL, libpq's `key=value` form, or `service=name`. The password may be in `~/.pgpass`,
and anything in libpq's variables. libpq itself completes the address, by its own rules. The result
needs no file and no variable: services run as other users, and Debezium's JDBC driver reads none of
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg

from app.environment.libpq_variables import GIVEN, counting, home_file
from app.errors import HeadwaterError
from app.source.database import options_of

_PLACE = ("user", "password", "host", "hostaddr", "port", "dbname")
_LOOKED_UP = ("service", "servicefile", "passfile")
# These reach psycopg by the URL, and the connector by `tls.py` and `jdbc_options.py`.
CARRIED = (
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "channel_binding",
    "require_auth",
    "target_session_attrs",
    "connect_timeout",
    "options",
)
# Headwater sets these itself for each of its sessions.
_OWN = (
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
# Values that change nothing, in addition to the defaults that libpq was built with.
_PLAIN = {
    "sslcertmode": ("allow",),
    "gssencmode": ("disable", "prefer"),
    "sslcompression": ("0",),
    "load_balance_hosts": ("disable",),
}
_PRIMARY = ("any", "read-write", "primary")
# Certificates that libpq takes from the home if the DSN names none; services have another home.
_DEFAULT_FILES = {
    "sslrootcert": "root.crt",
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
}


@dataclass(frozen=True, repr=False)
class Completed:
    """A source's address. `notes` say which parts of it are not used. `dsn` holds a password."""

    dsn: str
    notes: tuple[str, ...] = ()


def complete(given: str, variables: Mapping[str, str] | None = None) -> Completed:
    """Complete an address to a URL, from service files and libpq's variables.

    Args:
        variables: libpq's variables; by default those that the command was started with.
    Raises: HeadwaterError, without the password, if it is not an address, if a service does not
        exist, or if an option is set that not every session can follow.
    """
    options_of(given)  # raises if it cannot be read
    found, defaults, message = _by_libpq(given, GIVEN if variables is None else variables)
    for name, value in found.items():
        _refuse(name, value, defaults.get(name))
    if message and not _is_about_the_network(message):
        raise HeadwaterError(
            "the source's address cannot be used",
            detail=message.strip().replace(found.get("password") or "\0", "***"),
            hint="correct it in the address, the service file or libpq's variables",
        )
    host = _host(found)
    port = found.get("port", "5432")
    if "," in host or "," in port:
        raise HeadwaterError(
            "the source's address names several hosts, of which the connector can use only one",
            detail=host,
            hint="give the primary's address alone",
        )
    options = {
        name: found[name] for name in CARRIED if name in found and found[name] != defaults.get(name)
    }
    options |= _files(options)
    owner = quote(found.get("user", ""), safe="")
    if found.get("password"):
        owner += f":{quote(found['password'], safe='')}"
    shown = f"[{host}]" if ":" in host else quote(host, safe="")
    place = f"postgresql://{owner}@{shown}:{port}/{quote(found.get('dbname', ''), safe='')}"
    own = [name for name in _OWN if name in found]
    notes = (f"{', '.join(own)}: not used, because Headwater sets its own",) if own else ()
    return Completed(place + (f"?{urlencode(options, quote_via=quote, safe='/')}" if options else ""), notes)  # fmt: skip


def holds_password(given: str) -> bool:
    """Whether an address contains a password."""
    options = options_of(given)
    return bool(options.get("password") or options.get("sslpassword"))


def _by_libpq(
    given: str, variables: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str | None], str]:
    """Return libpq's options for an address, its built-in defaults, and its error message."""
    with counting(variables):
        # This also begins to connect: libpq has no call that only completes the options.
        session = psycopg.pq.PGconn.connect_start(given.encode())
        try:
            info, message = session.info, session.error_message.decode(errors="replace")
            password = session.password or b""
        finally:
            session.finish()
    found = {one.keyword.decode(): one.val.decode() for one in info if one.val}
    if password:
        found["password"] = password.decode()
    if "service" in message and found.get("host") is None:
        raise _no_service(given, variables, message)
    built_with = {one.keyword.decode(): one.compiled for one in info}
    defaults = {name: value.decode() if value else None for name, value in built_with.items()}
    return {k: v for k, v in found.items() if k not in _LOOKED_UP}, defaults, message


def _is_about_the_network(message: str) -> bool:
    """Whether libpq's message is about the network, which is reported when a session is opened."""
    return message.startswith("connection to server") or "host name" in message


def _no_service(given: str, variables: Mapping[str, str], message: str) -> HeadwaterError:
    name = options_of(given).get("service") or variables.get("PGSERVICE") or ""
    places = [variables.get("PGSERVICEFILE") or str(home_file(".pg_service.conf"))]
    if "PGSYSCONFDIR" in variables:
        places.append(str(Path(variables["PGSYSCONFDIR"]) / "pg_service.conf"))
    seen = [place if Path(place).is_file() else f"{place} (not there)" for place in places]
    return HeadwaterError(
        f"the service `{name}` of the source's address cannot be used",
        detail=f"{message.strip()}; looked in {', '.join(seen)}",
        hint=f"write [{name}] with host, port, dbname and user into one of them, or name another file "
        "in PGSERVICEFILE",
    )


def _refuse(name: str, value: str, built_with: str | None) -> None:
    if name == "connect_timeout" and not value.isdecimal():
        why = f"`connect_timeout={value}` is not a number of seconds"
    elif name == "target_session_attrs" and value not in _PRIMARY:
        why = f"`target_session_attrs={value}` asks for a standby, which cannot be captured"
    elif name in (*_PLACE, *CARRIED, *_OWN) or value in (built_with, *_PLAIN.get(name, ())):
        return
    else:
        why = f"`{name}` is set, which the connector's driver does not support"
    raise HeadwaterError(
        f"the source's address cannot be used: {why}",
        hint=f"take `{name}` out of the address, the service file and libpq's variables",
    )


def _host(found: Mapping[str, str]) -> str:
    host, address = found.get("host", ""), found.get("hostaddr", "")
    if host and address and host != address:
        raise HeadwaterError(
            "the source's address cannot be used: `hostaddr` is set beside `host`, but the "
            "connector's driver does not support `hostaddr`",
            hint="give one of them",
        )
    if not host and not address:
        raise HeadwaterError(
            "the source's address names no host",
            detail="looked in the address, its service and PGHOST",
            hint="the connector needs one: postgresql://user@host:5432/database",
        )
    return host or address


def _files(options: Mapping[str, str]) -> dict[str, str]:
    """Return absolute paths of certificates and keys, with those that libpq takes from the home."""
    found = {name: options[name] for name in _DEFAULT_FILES if name in options}
    if options.get("sslmode", "").startswith("verify-"):
        for name, file in _DEFAULT_FILES.items():
            default = home_file(f".postgresql/{file}")
            if name not in found and default.is_file():
                found[name] = str(default)
    return {
        name: value if value == "system" else str(Path(value).absolute())
        for name, value in found.items()
    }
