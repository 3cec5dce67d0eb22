"""Kafka Connect's REST interface answers nothing without its password."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
import requests

from app.environment.signed_in import without_user
from tests.integration.test_bronze_sink import sink_config
from tests.support.connectors import Connectors
from tests.support.stack import Stack

SINK = "dev.headwater.bronze.BronzeSinkConnector"
SECRET_OF_ANOTHER_SERVICE = "HEADWATER_SOURCE_DSN"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/connectors"),
        ("GET", "/admin/loggers"),
        ("PUT", f"/connector-plugins/{SINK}/config/validate"),
        ("PUT", "/connectors/mine/config"),
    ],
)
def test_a_request_without_the_password_is_refused(carriers: Stack, method: str, path: str) -> None:
    url = without_user(carriers.settings.connect_url)
    wrong = url.replace("://", "://headwater:wrong@")
    body = {"connector.class": SINK, "bucket": "${env:HEADWATER_S3_SECRET_KEY}"}
    for address in (url, wrong):
        answer = requests.request(method, address + path, json=body, timeout=30)
        assert answer.status_code == 401
        assert carriers.settings.secret("s3_secret_key") not in answer.text


def test_a_validation_expands_no_variable_that_connectors_do_not_name(carriers: Stack) -> None:
    answer = requests.put(
        f"{carriers.settings.connect_url}/connector-plugins/{SINK}/config/validate",
        json={"name": "x", **sink_config("x"), "bucket": f"${{env:{SECRET_OF_ANOTHER_SERVICE}}}"},
        timeout=30,
    )
    shown = json.dumps(answer.json())
    assert SECRET_OF_ANOTHER_SERVICE in shown  # the variable's name, not its value
    password = urlsplit(carriers.settings.source_dsn).password
    assert password is not None
    assert password not in shown


def test_a_connector_may_not_send_its_clients_elsewhere(carriers: Stack) -> None:
    connectors = Connectors(carriers.settings.connect_url)
    elsewhere = sink_config("x", **{"consumer.override.bootstrap.servers": "127.0.0.1:1"})
    assert any("bootstrap.servers" in error for error in connectors.errors(elsewhere))
    assert connectors.errors(sink_config("x")) == []
