"""pip uses a user's proxy; connections to the stack's own services do not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.environment.loopback import keep_direct
from app.environment.settings import ROOT
from tests.support.maven import Registry

# Each connects to a closed port on loopback, in an environment that names a proxy.
CLIENTS = {
    "Trino's client": "from app.query.trino_connection import connect\n"
    "connect('http://127.0.0.1:9').cursor().execute('SELECT 1')",
    "delta-rs": "from deltalake import DeltaTable\n"
    "DeltaTable('s3://lake/t', storage_options={'AWS_ENDPOINT_URL': 'http://127.0.0.1:9',"
    " 'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b', 'AWS_REGION': 'us-east-1',"
    " 'AWS_ALLOW_HTTP': 'true', 'max_retries': '0'})",
    "obstore": "import obstore\nfrom spark_streaming.storage.store_address import ObjectStore\n"
    "from spark_streaming.storage.store_clients import objects_below\n"
    "store = ObjectStore('http://127.0.0.1:9', access_key='a', secret_key='b')\n"
    "obstore.get(objects_below(store, 'lake', 't'), 'x')",
    "Arrow's S3": "import pyarrow.fs as fs\n"
    "fs.S3FileSystem(access_key='a', secret_key='b', region='us-east-1', connect_timeout=5,"
    " retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),"
    " endpoint_override='http://127.0.0.1:9').get_file_info('lake/x')",
    "requests": "import requests\nrequests.get('http://localhost:9/', timeout=5)",
}
AS_THE_COMMAND = (
    "import os\nfrom app.environment.loopback import keep_direct\nkeep_direct(os.environ)\n"
)


@pytest.fixture
def proxy() -> Iterator[Registry]:
    with Registry() as proxy:
        yield proxy


def behind(proxy: Registry, **more: str) -> dict[str, str]:
    """The environment of a user behind a proxy."""
    left_out = ("no_proxy", "http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in left_out}
    address = proxy.url.removesuffix("/maven")
    return {**kept, "HTTP_PROXY": address, "http_proxy": address, "ALL_PROXY": address, **more}


@pytest.mark.parametrize("client", list(CLIENTS))
def test_no_client_of_the_command_asks_a_proxy_for_the_stack(proxy: Registry, client: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AS_THE_COMMAND + CLIENTS[client]],
        cwd=ROOT,
        env=behind(proxy),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode != 0  # the port is closed
    assert "ModuleNotFoundError" not in ended.stderr
    assert proxy.asked == []


def test_the_command_keeps_what_the_user_names_and_adds_loopback() -> None:
    environment = {"NO_PROXY": "a.example, .b.example", "no_proxy": "c.example"}
    keep_direct(environment)
    assert environment["no_proxy"] == "c.example,a.example,.b.example,127.0.0.1,localhost,::1"
    assert environment["NO_PROXY"] == environment["no_proxy"]
    before = dict(environment)
    keep_direct(environment)
    assert environment == before
    everything = {"no_proxy": "*"}
    keep_direct(everything)
    assert everything == {"no_proxy": "*"}


def test_pip_asks_the_users_index_through_the_users_proxy(proxy: Registry, tmp_path: Path) -> None:
    lock = tmp_path / "tiny.lock"
    lock.write_text(f"headwater-nothing==1.0 --hash=sha256:{'0' * 64}\n")
    # A new environment takes seconds to make; this one's pip has the same settings.
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = behind(
        proxy,
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://index.example/simple",
        PIP_TRUSTED_HOST="index.example",
        PIP_RETRIES="0",
    )
    ended = subprocess.run(
        [sys.executable, str(ROOT / "app/artefacts/bootstrap.py"), str(tmp_path / "venv"), str(lock),
         "runtime"],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "pip could not install the locked packages" in ended.stderr
    assert proxy.asked[0][0] == "http://index.example/simple/headwater-nothing/"
