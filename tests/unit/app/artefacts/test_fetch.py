"""Fetching: resumed, verified, shared, from the user's own mirror; over a real HTTP server."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artefacts.certificates import certificates
from app.artefacts.download_progress import Lines
from app.artefacts.fetch import Fetcher
from app.artefacts.locking.cache import file_path
from app.artefacts.locking.lock import LockedFile
from app.artefacts.locking.repository import Repository, find_repository
from app.errors import HeadwaterError
from tests.support.maven import Registry, locked
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[4]
ONE = "org.example:one:1.0"
CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    with Registry() as registry:
        monkeypatch.setenv("HEADWATER_MAVEN_MIRROR", registry.url)
        yield registry


def fetcher(cache: Path, maven_folder: Path | None = None) -> Fetcher:
    return Fetcher(cache, find_repository(), maven_folder=maven_folder, backoff_s=0.001)


def fetched(cache: Path, file: LockedFile) -> bytes:
    return file_path(cache, file).read_bytes()


def part_of(cache: Path, file: LockedFile) -> Path:
    path = file_path(cache, file)
    return path.with_name(f"{path.name}.part")


def test_all_missing_files_are_fetched_under_their_names(
    registry: Registry, tmp_path: Path
) -> None:
    files = [registry.add(f"org.example:jar{n}:1.{n}", CONTENT[: n * 1000]) for n in range(1, 10)]
    fetcher(tmp_path).fetch(files)
    assert [fetched(tmp_path, file) for file in files] == [
        CONTENT[: n * 1000] for n in range(1, 10)
    ]
    assert file_path(tmp_path, files[2]).name == "jar3-1.3.jar"


def test_two_names_with_equal_content_are_both_fetched(registry: Registry, tmp_path: Path) -> None:
    files = [registry.add(ONE, CONTENT), registry.add("org.example:other:1.0", CONTENT)]
    fetcher(tmp_path).fetch(files)
    assert [fetched(tmp_path, file) for file in files] == [CONTENT, CONTENT]


def test_a_file_that_the_cache_holds_is_not_asked_for_again(
    registry: Registry, tmp_path: Path
) -> None:
    file = registry.add(ONE, CONTENT)
    fetcher(tmp_path).fetch([file])
    fetcher(tmp_path).fetch([file, file])
    assert len(registry.asked) == 1


def test_a_cut_connection_is_taken_up_where_it_ended(registry: Registry, tmp_path: Path) -> None:
    file = registry.add(ONE, CONTENT)
    registry.cuts[file.coordinate.path] = [300_000, 700_000]
    fetcher(tmp_path).fetch([file])
    assert fetched(tmp_path, file) == CONTENT
    assert [wanted for _, wanted in registry.asked] == ["", "bytes=300000-", "bytes=700000-"]


def test_an_earlier_process_s_part_is_taken_up(registry: Registry, tmp_path: Path) -> None:
    file = registry.add(ONE, CONTENT)
    part_of(tmp_path, file).parent.mkdir(parents=True)
    part_of(tmp_path, file).write_bytes(CONTENT[:500_000])
    fetcher(tmp_path).fetch([file])
    assert fetched(tmp_path, file) == CONTENT
    assert [wanted for _, wanted in registry.asked] == ["bytes=500000-"]


def test_a_part_is_fetched_again_where_the_server_knows_no_ranges(
    registry: Registry, tmp_path: Path
) -> None:
    registry.ranges = False
    file = registry.add(ONE, CONTENT)
    registry.cuts[file.coordinate.path] = [300_000]
    fetcher(tmp_path).fetch([file])
    assert fetched(tmp_path, file) == CONTENT


@pytest.mark.parametrize("rotten", [b"x" * 500_000, b"x" * len(CONTENT), b"x" * 2_000_000])
def test_a_rotten_part_is_thrown_away(registry: Registry, tmp_path: Path, rotten: bytes) -> None:
    file = registry.add(ONE, CONTENT)
    part_of(tmp_path, file).parent.mkdir(parents=True)
    part_of(tmp_path, file).write_bytes(rotten)
    fetcher(tmp_path).fetch([file])
    assert fetched(tmp_path, file) == CONTENT


@pytest.mark.parametrize(
    "served, observed",
    [
        (CONTENT[:-1] + b"!", "its SHA-256 is "),
        (CONTENT[:-5], "it has 1,048,571 bytes, the lock says 1,048,576"),
        (CONTENT + b"more", "it has 1,048,580 bytes, the lock says 1,048,576"),
    ],
    ids=["changed", "too short", "too long"],
)
def test_a_corrupt_file_is_refused_and_never_gets_its_name(
    registry: Registry, tmp_path: Path, served: bytes, observed: str
) -> None:
    file = locked(ONE, CONTENT)
    registry.content[file.coordinate.path] = served
    with pytest.raises(HeadwaterError) as caught:
        fetcher(tmp_path).fetch([file])
    assert caught.value.message == "org.example:one:1.0:jar arrives corrupt"
    assert observed in caught.value.detail
    assert "HEADWATER_MAVEN_MIRROR" in caught.value.hint
    assert [path.name for path in file_path(tmp_path, file).parent.iterdir()] == [".guard"]


def test_a_file_that_the_mirror_lacks_is_named_at_once(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError) as caught:
        fetcher(tmp_path).fetch([locked(ONE, CONTENT)])
    assert caught.value.message == "cannot fetch org.example:one:1.0:jar"
    assert caught.value.detail == f"{registry.url}/org/example/one/1.0/one-1.0.jar: HTTP 404"
    assert len(registry.asked) == 1


def test_a_busy_server_is_asked_again(registry: Registry, tmp_path: Path) -> None:
    file = registry.add(ONE, CONTENT)
    registry.statuses[file.coordinate.path] = [503, 429, 500]
    fetcher(tmp_path).fetch([file])
    assert fetched(tmp_path, file) == CONTENT


def test_a_server_that_stays_down_is_given_up(registry: Registry, tmp_path: Path) -> None:
    file = registry.add(ONE, CONTENT)
    registry.statuses[file.coordinate.path] = [503] * 100
    with pytest.raises(HeadwaterError, match="HTTP 503"):
        fetcher(tmp_path).fetch([file])
    assert len(registry.asked) == 5


def test_no_error_shows_the_mirror_s_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_MAVEN_MIRROR", "http://me:s3cret@127.0.0.1:1/maven")
    repository = find_repository()
    with pytest.raises(HeadwaterError) as caught:
        Fetcher(tmp_path, repository, backoff_s=0.001).fetch([locked(ONE, CONTENT)])
    assert "127.0.0.1:1/maven/org/example" in str(caught.value)
    assert "s3cret" not in str(caught.value) + repr(repository)


def test_a_folder_serves_as_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = locked(ONE, CONTENT)
    mirror = tmp_path / "a mirror"
    (mirror / file.coordinate.path).parent.mkdir(parents=True)
    (mirror / file.coordinate.path).write_bytes(CONTENT)
    monkeypatch.setenv("HEADWATER_MAVEN_MIRROR", mirror.as_uri())
    fetcher(tmp_path / "cache").fetch([file])
    assert fetched(tmp_path / "cache", file) == CONTENT
    with pytest.raises(HeadwaterError, match="No such file"):
        fetcher(tmp_path / "cache").fetch([locked("org.example:two:1.0", b"two")])


@pytest.mark.parametrize("own, requests", [(CONTENT, 0), (b"x" * len(CONTENT), 1), (b"short", 1)])
def test_the_user_s_maven_cache_is_used_where_its_checksum_is_right(
    registry: Registry, tmp_path: Path, own: bytes, requests: int
) -> None:
    file = registry.add(ONE, CONTENT)
    path = tmp_path / "m2" / file.coordinate.path
    path.parent.mkdir(parents=True)
    path.write_bytes(own)
    fetcher(tmp_path / "cache", tmp_path / "m2").fetch([file])
    assert fetched(tmp_path / "cache", file) == CONTENT
    assert len(registry.asked) == requests


FETCH_IN_A_PROCESS = """
import sys
from pathlib import Path
from app.artefacts.fetch import Fetcher
from app.artefacts.download_progress import Lines
from app.artefacts.locking.repository import find_repository
from tests.support.maven import locked
content = bytes(range(256)) * 4096
Fetcher(Path(sys.argv[1]), find_repository(), Lines()).fetch([locked("org.example:one:1.0", content)])
"""


def fetch_in_a_process(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH_IN_A_PROCESS, str(cache)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def test_two_processes_share_one_download(registry: Registry, tmp_path: Path) -> None:
    file = registry.add(ONE, CONTENT)
    registry.gate.clear()
    first = fetch_in_a_process(tmp_path)
    assert "fetching 1 files" in first_line(first)
    until(lambda: registry.asked, within_s=30, what="the first process asks")
    second = fetch_in_a_process(tmp_path)
    assert "fetching 1 files" in first_line(second)  # so it also found the file missing
    registry.gate.set()
    for process in (first, second):
        assert process.communicate(timeout=30) and process.returncode == 0
    assert fetched(tmp_path, file) == CONTENT
    assert len(registry.asked) == 1


def test_ctrl_c_ends_a_fetch_from_a_silent_server_and_the_next_goes_on(
    registry: Registry, tmp_path: Path
) -> None:
    file = registry.add(ONE, CONTENT)
    registry.cuts[file.coordinate.path] = [400_000]
    registry.ungated = 1
    registry.gate.clear()
    process = fetch_in_a_process(tmp_path)
    until(lambda: len(registry.asked) == 2, within_s=30, what="the second try, never answered")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)  # far less than the time-out for silence
    assert process.returncode != 0
    registry.gate.set()
    fetcher(tmp_path).fetch([file])
    assert fetched(tmp_path, file) == CONTENT
    assert registry.asked[-1][1] == "bytes=400000-"


SETTINGS = """<?xml version="1.0"?>
<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0">
  <servers><server><id>ours</id><username>me</username><password>s3cret</password></server></servers>
  <mirrors>
    <mirror><id>other</id><mirrorOf>jboss</mirrorOf><url>https://other.example/m2</url></mirror>
    <mirror><id>not</id><mirrorOf>*,!central</mirrorOf><url>https://not.example/m2</url></mirror>
    <mirror><id>ours</id><mirrorOf>{covers}</mirrorOf><url>https://ours.example/m2</url></mirror>
  </mirrors>
</settings>
"""


@pytest.mark.parametrize("covers", ["central", "*", "external:*", "jboss, central"])
def test_the_mirror_of_maven_s_settings_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, covers: str
) -> None:
    monkeypatch.delenv("HEADWATER_MAVEN_MIRROR", raising=False)
    settings = tmp_path / "settings.xml"
    settings.write_text(SETTINGS.format(covers=covers))
    found = find_repository(settings)
    assert (found.url, found.login) == ("https://ours.example/m2", ("me", "s3cret"))
    assert "s3cret" not in repr(found)


def test_without_a_mirror_the_default_registry_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADWATER_MAVEN_MIRROR", raising=False)
    assert find_repository(tmp_path / "none.xml").chosen_by == "the default registry"


def test_a_mirror_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_MAVEN_MIRROR", "ours.example/m2")
    with pytest.raises(HeadwaterError, match="HEADWATER_MAVEN_MIRROR is not an address"):
        find_repository()


PROXIES = """<?xml version="1.0"?>
<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><proxies>
  <proxy><active>false</active><host>off.example</host></proxy>
  <proxy><host>127.0.0.1</host><port>{port}</port><username>me</username><password>s3:cret</password>
    <nonProxyHosts>*.inside.example|localhost</nonProxyHosts></proxy>
</proxies><mirrors>
  <mirror><id>ours</id><mirrorOf>central</mirrorOf><url>http://{mirror}/maven</url></mirror>
</mirrors></settings>
"""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A user's proxy that gets requests for hosts that do not exist; no variable names it."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Registry() as proxy:
        yield proxy


def behind(proxy: Registry) -> LockedFile:
    file = proxy.add(ONE, CONTENT)
    proxy.content[f"http://mirror.example/maven/{file.coordinate.path}"] = CONTENT
    return file


def test_the_environments_proxy_is_asked_for_the_mirrors_files(
    proxy: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_MAVEN_MIRROR", "http://mirror.example/maven")
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/maven"))
    file = behind(proxy)
    fetcher(tmp_path).fetch([file])
    assert fetched(tmp_path, file) == CONTENT


def test_the_proxy_of_mavens_settings_is_asked_where_the_environment_names_none(
    proxy: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADWATER_MAVEN_MIRROR", raising=False)
    settings = tmp_path / "settings.xml"
    port = proxy.url.split(":")[2].split("/")[0]
    settings.write_text(PROXIES.format(port=port, mirror="mirror.example"))
    found = find_repository(settings)
    assert found.proxies["https"] == f"http://me:s3%3Acret@127.0.0.1:{port}"
    assert "s3" not in repr(found)
    file = behind(proxy)
    Fetcher(tmp_path, found, backoff_s=0.001).fetch([file])
    assert fetched(tmp_path, file) == CONTENT
    settings.write_text(PROXIES.format(port=port, mirror="maven.inside.example"))
    assert find_repository(settings).proxies == {}


def test_a_host_that_needs_no_proxy_is_asked_directly(
    registry: Registry, proxy: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/maven"))
    monkeypatch.setenv("no_proxy", "elsewhere.example,127.0.0.1")
    file = registry.add(ONE, CONTENT)
    fetcher(tmp_path).fetch([file])
    assert (len(registry.asked), proxy.asked) == (1, [])


def test_certificates_are_the_users_or_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    machine = certificates()
    assert machine is True or Path(str(machine)).is_file()
    bundle = tmp_path / "company.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert certificates() == str(bundle)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert certificates() is True  # by the library's own rule this is the file


def test_progress_in_a_log_is_a_line_every_five_seconds_at_most() -> None:
    now, stream = [100.0], io.StringIO()
    lines = Lines(stream, clock=lambda: now[0])
    lines.start(files=2, size=100_000_000, done=20_000_000)
    for _ in range(60):
        now[0] += 0.125
        lines.advance(1_000_000)
    lines.finish()
    assert stream.getvalue().splitlines() == [
        "fetching 2 files, 100.0 MB, 20.0 MB of them kept from before",
        "  60.0 MB of 100.0 MB (60 %), 8.0 MB/s, 5 s to go",
        "fetched 60.0 MB in 8 s",
    ]


def test_a_cache_that_cannot_be_written_is_told(registry: Registry, tmp_path: Path) -> None:
    file = registry.add(ONE, CONTENT)
    part_of(tmp_path, file).mkdir(parents=True)  # prevents writing, even for root
    with pytest.raises(HeadwaterError, match="cannot write the cache") as caught:
        fetcher(tmp_path).fetch([file])
    assert "Is a directory" in caught.value.detail


def test_a_full_disk_is_told_before_the_download(registry: Registry, tmp_path: Path) -> None:
    huge = LockedFile(locked(ONE, b"").coordinate, 10**18, "0" * 64)
    with pytest.raises(HeadwaterError, match="too little disk") as caught:
        Fetcher(tmp_path, Repository(registry.url)).fetch([huge])
    assert "HEADWATER_CACHE" in caught.value.hint
    assert registry.asked == []
