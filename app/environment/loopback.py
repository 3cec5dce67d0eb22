"""Connections between this stack's parts: without a user's proxy, with the stack's own authority."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

NAMES = ("127.0.0.1", "localhost", "::1")
# The names in the certificates of the stack's servers.
LOOPBACK_NAMES = NAMES[:2]
# Clients read one or the other, and some use the first that is set.
VARIABLES = ("no_proxy", "NO_PROXY")
# In the folder `tls` of a home: the authority's certificate alone, and together with those that the
# machine trusts; each as PEM and, for JVMs, as PKCS #12.
CA, TRUSTSTORE = "ca.pem", "ca.p12"
TRUSTED, TRUSTED_STORE = "trusted.pem", "trusted.p12"
# The variables for the bundle of Python's `ssl`, delta-rs, obstore and pyarrow, and for that of `requests`.
TRUST_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def trust(folder: Path) -> dict[str, str]:
    """Return the variables that make Python's clients also trust the authority of `folder`."""
    return dict.fromkeys(TRUST_VARIABLES, str(folder / TRUSTED))


def direct_session() -> requests.Session:
    """Make a session for the stack's own servers: no proxy, no log-in, the stack's certificates."""
    import requests

    session = requests.Session()
    session.trust_env = False  # loopback is never behind a proxy
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE", True)
    return session


def keep_direct(environment: MutableMapping[str, str]) -> None:
    """Add loopback to the hosts that clients reach without a proxy (`NO_PROXY`).

    A proxy cannot reach our loopback. Trino's client, delta-rs and the S3 clients take
    `HTTP_PROXY` from the environment, and no other setting works for all of them.
    """
    found = ",".join(environment.get(name, "") for name in VARIABLES)
    hosts = list(dict.fromkeys(host.strip() for host in found.split(",") if host.strip()))
    if "*" in hosts:  # `*` means all hosts only if it is the whole value
        return
    given = ",".join([*hosts, *(name for name in NAMES if name not in hosts)])
    environment.update(dict.fromkeys(VARIABLES, given))
