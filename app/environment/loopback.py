"""Keeps a user's proxy out of the connections between this stack's parts."""

from __future__ import annotations

from collections.abc import MutableMapping

NAMES = ("127.0.0.1", "localhost", "::1")
# Clients read one or the other, and some use the first that is set.
VARIABLES = ("no_proxy", "NO_PROXY")


def keep_direct(environment: MutableMapping[str, str]) -> None:
    """Add loopback to the hosts that clients reach without a proxy (`NO_PROXY`).

    A proxy cannot reach our loopback. Trino's client, delta-rs and the S3 clients take
    `HTTP_PROXY` from the environment, and there is no other one setting for all of them.
    """
    found = ",".join(environment.get(name, "") for name in VARIABLES)
    hosts = list(dict.fromkeys(host.strip() for host in found.split(",") if host.strip()))
    if "*" in hosts:  # means everything only where it stands alone
        return
    given = ",".join([*hosts, *(name for name in NAMES if name not in hosts)])
    environment.update(dict.fromkeys(VARIABLES, given))
