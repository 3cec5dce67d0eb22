"""Every writer stops at its start if the store accepts a second put of an existing name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from app.connectors.registration import BRONZE, templates
from app.environment.settings import Settings, load
from app.services.service import load_services
from tests.support.connectors import Connectors
from tests.support.overwriting_store import OverwritingServer, overwriting_store
from tests.support.stack import ROOT, Stack

# Services that use the object store: those that commit to it with conditional puts, and the others. The
# sink is a connector of `connect`. `tables` checks the store for Trino's users, and each task of a job checks
# it before its first commit. Hive's metastore only makes folders.
WRITERS = {"silver", "streams", "tables", "capture", "metrics", "verifier"}
OTHERS = {"connect", "connectors", "app", "trino", "jobs-code", "metastore", "notebooks", "mlflow"}
END_S = 60


@pytest.fixture(scope="module")
def taking_all() -> Iterator[OverwritingServer]:
    with overwriting_store() as server:
        yield server


def test_each_service_that_asks_the_store_is_known_as_a_writer_or_as_none() -> None:
    asking = {name for name, one in load_services(ROOT).items() if "object-store" in one.secrets}
    instances = {"trino-worker", "spark-master", "spark-worker"}
    assert asking - instances == WRITERS | OTHERS


@pytest.mark.parametrize("service", sorted(WRITERS))
def test_a_writer_ends_with_what_the_store_did_and_what_to_do(
    service: str, taking_all: OverwritingServer, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text(
        f's3_endpoint = "{taking_all.store.endpoint}"\n'
        's3_access_key = "key"\ns3_secret_key = "secret"\nnetwork = "containers"\n'
    )
    settings = load(tmp_path / "home", profile)
    settings.save()
    described = load_services(ROOT)[service]
    environment = {
        **os.environ,
        **settings.environment(),
        **{name: filled(value, settings) for name, value in described.environment.items()},
        "PYTHONPATH": str(ROOT),
    }
    command = [filled(word, settings) for word in described.command]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=END_S
    )
    assert ended.returncode > 0, ended.stderr
    assert "overwrote lake/_headwater/conditional-put in spite of" in ended.stderr
    assert "hint: use a store that honours it" in ended.stderr
    assert "Traceback" not in ended.stderr


def filled(template: str, settings: Settings) -> str:
    """The value of a placeholder in a description: this Python, a setting, an unused port, or a folder."""

    def value(match: re.Match[str]) -> str:
        space, _, name = match[1].partition(".")
        if space == "setting":
            return settings.profile.value(name)
        return {"python": sys.executable, "port": "1", "instance": "1"}.get(
            space, str(settings.home)
        )

    return re.sub(r"\$\{([^}]+)\}", value, template)


def test_the_sinks_task_fails_with_what_the_store_did(
    carriers: Stack, taking_all: OverwritingServer
) -> None:
    connectors = Connectors(carriers.settings.connect_url)
    config = {
        **templates()[BRONZE],
        "topics.regex": r"overwritten\..+",
        "s3.endpoint": taking_all.store.endpoint,
    }
    client = KafkaAdminClient(**carriers.settings.kafka.options)
    client.create_topics([NewTopic("overwritten.a", 1, 1)])
    client.close()
    connectors.put("overwritten", config)
    try:
        task = connectors.await_state("overwritten", "FAILED")
    finally:
        connectors.delete("overwritten")
    assert "the object store overwrote an object in spite of" in task["trace"]
