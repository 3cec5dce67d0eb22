"""Translates a DSN's encryption options from libpq to the connector's Java driver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.source.database import options_of

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey")
PASSWORD_VARIABLE = "HEADWATER_CAPTURE_SSL_PASSWORD"
# libpq's name for the system's trusted certificates; here those of the JRE.
_SYSTEM = "system"
_SYSTEM_FACTORY = "org.postgresql.ssl.DefaultJavaSSLFactory"
# The driver's key manager reads files with these endings as PKCS #12, others as PKCS #8, DER or
# PEM.
_PKCS12 = (".p12", ".pfx")


def connector_tls(dsn: str) -> dict[str, str]:
    """Return Debezium's `database.ssl…` properties for a DSN, without the key's password.

    Raises: HeadwaterError if the text is not a DSN.
    """
    options = options_of(dsn)
    mode = str(options.get("sslmode") or "prefer")
    found = {"database.sslmode": mode if mode in _MODES else "prefer"}
    root = options.get("sslrootcert")
    if root == _SYSTEM:
        return {
            "database.sslmode": "verify-full",  # libpq accepts nothing weaker with it
            "database.sslfactory": _SYSTEM_FACTORY,
        }
    if root and mode == "require":
        found["database.sslmode"] = "verify-ca"  # libpq's own rule, which the driver does not have
    found |= {f"database.{name}": str(options[name]) for name in _FILES if options.get(name)}
    if options.get("sslpassword"):
        found["database.sslpassword"] = f"${{env:{PASSWORD_VARIABLE}}}"
    return found


def tls_problem(dsn: str) -> str:
    """Return why the connector cannot use the DSN's files; empty if it can."""
    options = options_of(dsn)
    for name in _FILES:
        path = str(options.get(name) or "")
        if not path or (name == "sslrootcert" and path == _SYSTEM):
            continue
        if not Path(path).is_absolute():
            return f"{name}={path}: give the whole path, because the services run in other folders"
        if not Path(path).is_file():
            return f"{name}={path}: no such file"
    return _key_problem(options)


def _key_problem(options: Mapping[str, Any]) -> str:
    path = str(options.get("sslkey") or "")
    if not path or path.endswith(_PKCS12):
        return ""
    try:
        head = Path(path).read_bytes()[:64]
    except OSError as error:
        return f"sslkey={path}: {error.strerror}"
    if head.startswith(b"-----") and not head.startswith(b"-----BEGIN PRIVATE KEY-----"):
        form = head.split(b"\n")[0].decode(errors="replace").strip("- ")
        return (
            f"sslkey={path} holds a {form.removeprefix('BEGIN ')}, which the connector cannot read: "
            f"openssl pkcs8 -topk8 -nocrypt -in {path} -out NEW"
        )
    return ""
