"""Gives an encrypted stack's processes their key pairs, and the certificates that they trust.

`cryptography` is imported only if a stack is encrypted, because that slows the start of a command.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from app.artefacts.certificates import SYSTEM_BUNDLES
from app.environment.loopback import LOOPBACK_NAMES, TRUST_VARIABLES, TRUSTED, TRUSTED_STORE
from app.environment.service_problem import report_problem
from app.environment.settings import Settings, write_private
from app.services.service import Service


def prepare_trust(settings: Settings, *, running: bool) -> None:
    """Make the authority, renew it while nothing runs, and write the bundles that clients read."""
    if not settings.own_authority:
        return
    from app.environment.encryption.authority import Authority

    authority = Authority(settings.tls)
    if not running:
        authority.renew()
    own = str(settings.tls / TRUSTED)
    given = [os.environ.get(name) for name in TRUST_VARIABLES]
    candidates = [*(path for path in given if path and path != own), *SYSTEM_BUNDLES]
    machine = next((Path(path) for path in candidates if Path(path).is_file()), None)
    authority.write_trusted(machine.read_text() if machine is not None else "")


def prepare_access(settings: Settings, *, running: bool) -> None:
    """Write the files with which Trino identifies its users; if nothing runs, also rules that show people nothing
    yet."""
    if not running:
        report_problem(settings.home, "tables", None)  # of an earlier start, perhaps
    if not settings.profile.signed:
        return
    from app.access.accounts import FOLDER, Users
    from app.access.trino_rules import RULES, closed_rules

    Users(settings).write_files()
    if not running:
        write_private(settings.home / FOLDER / RULES, closed_rules())


def key_pair(settings: Settings, service: Service, run: Path) -> list[Path]:
    """Make or renew the key pair of a service that listens; return its files and their folder."""
    listens = bool(service.ports) and (settings.profile.encryption or service.signed is not None)
    if not (settings.own_authority and listens):
        return []
    from app.environment.encryption.authority import Authority

    pair = Authority(settings.tls).pair(
        run / "tls",
        service.name,
        [*LOOPBACK_NAMES, service.name],
        settings.secret("keystore_password"),
    )
    return [pair.folder, *pair.files()]


def jvm_options(settings: Settings) -> Sequence[str]:
    """Return the options by which a JVM trusts the stack's authority and the machine's."""
    if not settings.own_authority:
        return []
    store = settings.tls / TRUSTED_STORE
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12"]
