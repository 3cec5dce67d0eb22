"""The checks of a Connect cluster, a Trino, a Superset, a Prometheus and a catalogue of one's own.

Each asks as the user that its URL names. A finding names a missing requirement and how to add it;
docs/operations/own-parts.md explains how to set up a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import requests

from app.connectors.registration import BRONZE, SOURCE, source_config, templates
from app.connectors.worker import Worker, WorkerBusy
from app.dashboards.load import admin
from app.environment.settings import Settings
from app.environment.signed_in import signed_in, without_user
from app.errors import HeadwaterError
from app.lineage.event_sender import receiver
from app.profile_check.checked_part import OURS, Checked, answering, told
from app.query.trino_connection import CATALOG, connect, explain
from app.source.findings import MISSING, OK
from app.source.source_tables import Names

TIMEOUT_S = 10.0
GUIDE = "docs/operations/own-parts.md"
# An empty message as remote write sends it: snappy's block of no bytes.
_NO_SAMPLES = b"\x00"
_WRITE_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


# -- Kafka Connect


def check_connect(settings: Settings) -> Iterator[Checked]:
    """Look for the plugins at each worker, and let one validate both connectors."""
    if settings.profile.connect_here:
        yield Checked("connect", "workers", OK, OURS)
        return
    wanted = {name: config["connector.class"] for name, config in templates().items()}
    for url in settings.connect_urls:
        shown = without_user(url)
        found = _json("connect", url, "/connector-plugins")
        if isinstance(found, Checked):
            yield found
            continue
        known = {one["class"] for one in found}
        if absent := [kind for kind in wanted.values() if kind not in known]:
            seen = f"{shown} has no plugin {', '.join(absent)}"
            todo = f"put the connectors into its plugin.path: {GUIDE}"
            yield told("connect", "plugins", MISSING, seen, todo)
        else:
            yield Checked("connect", "plugins", OK, f"{shown} has both connectors")
            yield from _validated(settings, url)


def _validated(settings: Settings, url: str) -> Iterator[Checked]:
    configs = templates()
    names = Names.of(settings)
    configs[SOURCE] = source_config(configs[SOURCE], settings.capture_dsn, names, [])
    worker = Worker(url)
    for name in (SOURCE, BRONZE):
        try:
            errors = worker.errors_of(configs[name], name)
        except WorkerBusy as error:
            errors = [str(error)]
        except HeadwaterError as error:
            errors = [error.detail or error.message]
        for each in errors:
            todo = f"the workers' variables and settings are listed in {GUIDE}"
            yield told("connect", f"connector {name}", MISSING, " ".join(each.split())[:400], todo)
        if not errors:
            yield Checked("connect", f"connector {name}", OK, "its configuration is accepted")


# -- Trino


def check_trino(settings: Settings) -> Iterator[Checked]:
    """Ask the catalog `lake`, and whether a table may be registered in it."""
    if settings.profile.trino_here:
        yield Checked("trino", "address", OK, OURS)
        return
    url = settings.trino_url
    try:
        catalogs = {row[0] for row in _ask(url, "SHOW CATALOGS")}
    except Exception as error:  # noqa: BLE001 - the client has many kinds
        yield told("trino", "log-in", MISSING, _seen(error, url), _login_todo(error))
        return
    yield Checked("trino", "log-in", OK, f"{without_user(url)} answers")
    if CATALOG not in catalogs:
        seen = f"it has no catalog {CATALOG}, or this user does not see it"
        yield told("trino", f"catalog {CATALOG}", MISSING, seen, f"{GUIDE} has its lines")
        return
    try:
        # A schema that does not exist: that is the reason for the refusal only if registering is
        # allowed.
        _ask(
            url,
            f"CALL {CATALOG}.system.register_table(schema_name => 'headwater_check', "
            "table_name => 'none', table_location => 's3://none/none')",
        )
        seen = ""
    except Exception as error:  # noqa: BLE001 - the client has many kinds
        seen = _seen(error, url)
    if "headwater_check" in seen and "not found" in seen.lower():
        yield Checked("trino", f"catalog {CATALOG}", OK, "tables may be registered in it")
    else:
        todo = (
            f"set delta.register-table-procedure.enabled=true in catalog {CATALOG}, and let this user "
            f"make tables and views there: {GUIDE}"
        )
        yield told("trino", f"catalog {CATALOG}", MISSING, seen or "no answer", todo)


def _ask(url: str, statement: str) -> list[list[Any]]:
    connection = connect(url, max_attempts=1, request_timeout=TIMEOUT_S)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall())
    finally:
        connection.close()


def _seen(error: Exception, url: str) -> str:
    found = explain(error, url)
    return " ".join(f"{found.message}: {found.detail}".split())[:300]


def _login_todo(error: Exception) -> str:
    if re.search(r"\b40[13]\b", str(error)):
        return "check the user and the password in trino_url"
    return "check trino_url: its host, its port, http or https, and verify for an authority of your own"


# -- Superset


def check_superset(settings: Settings) -> Iterator[Checked]:
    """Log in, and check that its databases include Trino."""
    if settings.profile.superset_url is None:
        yield Checked("superset", "address", OK, OURS)
        return
    try:
        superset = admin(settings)
        yield Checked("superset", "log-in", OK, f"{superset.url} lets the user in")
        found = superset.answer("/api/v1/database/available/")["databases"]
    except HeadwaterError as error:
        seen = " ".join(f"{error.message}: {error.detail}".split())[:300]
        todo = "check the user and the password in superset_url; the user needs the role Admin"
        yield told("superset", "log-in", MISSING, seen, todo)
        return
    if any(one.get("engine") == "trino" for one in found):
        yield Checked("superset", "driver of Trino", OK, "is installed")
    else:
        todo = "install the package trino[sqlalchemy] beside Superset"
        yield told("superset", "driver of Trino", MISSING, "Superset does not list Trino", todo)


# -- Prometheus


def check_remote_write(settings: Settings) -> Iterator[Checked]:
    """Send no samples to the receiver, as remote write would."""
    if settings.profile.prometheus_remote_write_url is None:
        yield Checked("prometheus", "remote write", OK, "not asked for")
        return
    session, [url] = signed_in([settings.secret("prometheus_remote_write_url")])
    try:
        answer = session.post(url, data=_NO_SAMPLES, headers=_WRITE_HEADERS, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        yield answering("prometheus", "remote write", *_unreachable(url, error))
        return
    if answer.ok:
        yield Checked("prometheus", "remote write", OK, f"{url} takes samples")
        return
    todo = {
        401: "check the user and the password in prometheus_remote_write_url",
        403: "let this user write there",
        404: "check the path; a Prometheus needs --web.enable-remote-write-receiver",
    }.get(answer.status_code, "see the receiver's own log")
    yield told("prometheus", "remote write", MISSING, f"{url}: status {answer.status_code}", todo)


# -- OpenLineage


def check_openlineage(settings: Settings) -> Iterator[Checked]:
    """Post an empty object, which is not an event, so a receiver refuses it and stores nothing."""
    if settings.profile.openlineage_url is None:
        yield Checked("openlineage", "receiver", OK, "not asked for")
        return
    session, url = receiver(settings.secret("openlineage_url"))
    try:
        answer = session.post(url, json={}, timeout=TIMEOUT_S, allow_redirects=False)
    except requests.RequestException as error:
        yield answering("openlineage", "receiver", *_unreachable(url, error))
        return
    todo = {
        401: "check the user and the password, or the token, in openlineage_url",
        403: "let this user write there",
        404: "check the path: Marquez has /api/v1/lineage, DataHub /openapi/openlineage/api/v1/lineage",
    }.get(answer.status_code)
    if todo or answer.is_redirect:
        seen = f"{url}: status {answer.status_code}"
        yield told(
            "openlineage", "receiver", MISSING, seen, todo or "write the address it leads to"
        )
    else:
        yield Checked("openlineage", "receiver", OK, f"{url} answers")


def _json(part: str, url: str, path: str) -> Any:
    """Return the answer of a service, or its error."""
    session, [bare] = signed_in([url])
    try:
        answer = session.get(bare + path, timeout=TIMEOUT_S)
        if answer.status_code in (401, 403):
            todo = f"check the user and the password in {part}_url"
            return told(part, "log-in", MISSING, f"{bare}: status {answer.status_code}", todo)
        answer.raise_for_status()
        return answer.json()
    except (requests.RequestException, ValueError) as error:
        return answering(part, "answers", *_unreachable(bare, error))


def _unreachable(url: str, error: Exception) -> tuple[str, str]:
    cause = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error))
    seen = cause.group(1) if cause else type(error).__name__
    return f"{url}: {seen}", "check that it runs, and its URL in the profile"
