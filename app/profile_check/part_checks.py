"""Checks each service that a profile names: whether it answers, which rights are missing, and how to grant them.

Each check is a function of the settings that yields its findings. It ends within seconds, changes
nothing that stays, and its texts hold no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from app.environment.settings import Settings, of_each_source
from app.errors import HeadwaterError
from app.lake import object_store
from app.launcher.liveness_probe import THRIFT_REQUEST, probe_bytes
from app.profile_check.checked_part import OURS, Checked, answering, told
from app.profile_check.kafka_check import check_kafka
from app.profile_check.own_part_checks import (
    check_connect,
    check_openlineage,
    check_remote_write,
    check_superset,
    check_trino,
)
from app.profile_check.reachable import check_http, check_mail, check_tcp
from app.profile_check.serving_check import check_serving
from app.source.findings import MISSING, NOTE, OK
from app.source.preflight import check_source
from app.source.preflight_report import entry_of


def check_profile(settings: Settings) -> Iterator[Checked]:
    """Check every part that the profile names, in the order in which a change passes them."""
    for part, check in PARTS.items():
        try:
            yield from check(settings)
        except HeadwaterError as error:
            observed = f"{error.message}: {error.detail}" if error.detail else error.message
            yield told(part, "answers", MISSING, " ".join(observed.split()), error.hint)


def _source(settings: Settings) -> Iterator[Checked]:
    for one in of_each_source(settings):
        part = f"source {one.source}".rstrip()
        if one.profile.embedded_source:
            yield Checked(part, "address", OK, OURS)
            continue
        for finding in check_source(one):
            entry = entry_of(finding)
            yield Checked(
                part, entry.check, entry.status, entry.observed, finding.remedy, entry.todo
            )


def _kafka(settings: Settings) -> Iterator[Checked]:
    if settings.profile.embedded_kafka:
        yield Checked("kafka", "address", OK, OURS)
        return
    for check, status, observed, todo in check_kafka(settings):
        yield told("kafka", check, status, observed, todo)


def _store(settings: Settings) -> Iterator[Checked]:
    if settings.profile.objects_here:
        yield Checked("store", "address", OK, OURS)
        return
    for finding in object_store.examine(settings, apply=False):
        yield told("store", finding.check, finding.status, finding.observed, finding.remedy)


def _spark(settings: Settings) -> Iterator[Checked]:
    master = settings.profile.spark_master
    if settings.profile.spark_workers or master.startswith("local"):
        yield Checked("spark", "master", OK, OURS)
    elif master.startswith("spark://"):
        for address in master.removeprefix("spark://").split(","):
            yield answering("spark", "master", *check_tcp(address, default_port=7077))
    elif master.startswith("k8s://"):
        yield answering("spark", "master", *check_http(master.removeprefix("k8s://")))
    else:
        seen = f"{master}: its address is in Hadoop's configuration, which is not read here"
        yield told("spark", "master", NOTE, seen, "set HADOOP_CONF_DIR for the service silver")


def _metastore(settings: Settings) -> Iterator[Checked]:
    profile = settings.profile
    if not profile.metastore_uri:
        observed = "AWS Glue is not asked here" if profile.metastore == "glue" else OURS
        yield Checked("metastore", profile.metastore, OK, observed)
    for address in filter(None, profile.metastore_uri.split(",")):
        if profile.metastore == "glue":
            yield answering("metastore", "glue", *check_http(address))
            continue
        found = probe_bytes(address.removeprefix("thrift://"), THRIFT_REQUEST)
        if found.ready:
            yield Checked("metastore", "hive", OK, found.observed)
        else:
            todo = "check metastore_uri, and that a Hive metastore without TLS answers there"
            yield told("metastore", "hive", MISSING, found.observed, todo)


def _alerts(settings: Settings) -> Iterator[Checked]:
    profile = settings.profile
    urls = {
        name: getattr(profile, name)
        for name in (
            "alert_webhook_url",
            "alert_slack_url",
            "data_alert_webhook_url",
            "data_alert_slack_url",
        )
        if getattr(profile, name) is not None
    }
    for name, url in urls.items():
        # Asked for its connection only: a notification would wake somebody.
        yield answering("alerts", name, *check_http(url.get_secret_value()))
    if profile.alert_email_to or profile.data_alert_email_to:
        password = profile.alert_smtp_password
        secret = password.get_secret_value() if password else None
        yield answering(
            "alerts", "alert_smtp", *check_mail(profile.alert_smtp, profile.alert_smtp_user, secret)
        )
    elif not urls:
        yield told("alerts", "addresses", NOTE, "alerts are sent to nobody", _NOBODY)


def _contracts(settings: Settings) -> Iterator[Checked]:
    folder = settings.contracts_dir
    if settings.profile.contracts_dir is None or folder.is_dir():
        yield Checked(
            "contracts", "folder", OK, str(folder) if folder.is_dir() else "none of yours"
        )
    else:
        todo = "make it, or leave contracts_dir out"
        yield told("contracts", "folder", MISSING, f"{folder} is no folder", todo)


_NOBODY = "set alert_webhook_url, alert_slack_url or alert_email_to"
PARTS: dict[str, Callable[[Settings], Iterator[Checked]]] = {
    "source": _source,
    "kafka": _kafka,
    "connect": check_connect,
    "store": _store,
    "spark": _spark,
    "metastore": _metastore,
    "trino": check_trino,
    "superset": check_superset,
    "prometheus": check_remote_write,
    "openlineage": check_openlineage,
    "serving": check_serving,
    "alerts": _alerts,
    "contracts": _contracts,
}
