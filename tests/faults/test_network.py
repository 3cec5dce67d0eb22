"""The store, Kafka and the source behind a bad network: out of reach, slow, cutting connections in the middle.

Each is reached through a proxy of the test's own, by all parts: silver, Connect, Trino, the capture, the exporter.
`HEADWATER_FAULT_SECONDS` is the time that each fault lasts at least.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.support.certificates import make_certificates, needs_openssl
from tests.support.fault import Fault, Scene, fault_scene
from tests.support.own_kafka import own_kafka
from tests.support.proxy import Proxy
from tests.support.stack import fresh_stack

LASTS_S = float(os.environ.get("HEADWATER_FAULT_SECONDS") or 60)
LATENCY_S = 0.2  # in each direction
CUT_BYTES_MAX = 200_000
PARTS = ("s3", "kafka", "postgres")
# What fires if a part is out of reach for a minute or two.
ALERTS = {
    "s3": ("TableStale", "ProbeLate", "BatchStuck"),
    "kafka": ("TableStale", "ProbeLate", "BatchStuck"),
    "postgres": ("CollectorFailing", "ConnectorFailed", "ProbeLate"),
}

pytestmark = [needs_openssl, pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module")
def proxies() -> Iterator[dict[str, Proxy]]:
    with ExitStack() as running:
        yield {
            name: running.enter_context(Proxy(seed=number).running())
            for number, name in enumerate(PARTS)
        }


@pytest.fixture(scope="module")
def scene(proxies: dict[str, Proxy], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A stack whose store, Kafka and source are far away, behind the proxies."""
    folder: Path = tmp_path_factory.mktemp("broker")
    make_certificates(folder)
    with fresh_stack() as far, own_kafka(folder, proxies["kafka"]):
        far.up("--only", "postgres", "s3")
        for name in ("postgres", "s3"):
            proxies[name].target = far.settings.ports.number(name)
        with far.source() as source:
            source.execute("CREATE DATABASE yours")
        dsn = far.settings.source_dsn.rpartition("/")[0] + "/yours"
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        behind = (
            f"postgresql://{parts['user']}:{parts['password']}"
            f"@127.0.0.1:{proxies['postgres'].port}/yours"
        )
        with fault_scene(
            "--source", behind, "--apply",
            dsn=dsn,
            s3_endpoint=f"http://127.0.0.1:{proxies['s3'].port}",
            s3_access_key=far.settings.secret("s3_access_key"),
            s3_secret_key=far.settings.secret("s3_secret_key"),
            kafka_address=f"127.0.0.1:{proxies['kafka'].port}",
        ) as found:  # fmt: skip
            yield found


@pytest.mark.parametrize("part", PARTS)
def test_a_bad_network_to_a_part_loses_nothing(
    scene: Scene, proxies: dict[str, Proxy], part: str, seed: int
) -> None:
    proxy = proxies[part]
    faults = (
        Fault(f"{part} is out of reach", proxy.break_off, proxy.heal, ALERTS[part], LASTS_S),
        Fault(f"{part} is slow", lambda: proxy.delay(LATENCY_S), proxy.heal, lasts_s=LASTS_S),
        Fault(f"{part} is cut", lambda: proxy.cut(CUT_BYTES_MAX), proxy.heal, lasts_s=LASTS_S),
    )
    with scene.load(seed):
        for fault in faults:
            scene.suffer(fault)
    print(f"{proxy.cuts} connections of {part} cut")
    scene.prove()
