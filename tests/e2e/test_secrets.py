"""No other user of the machine can read a secret of a running stack."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import requests

from app.environment.signed_in import without_user
from app.processes.identity import Shelter, unprivileged_identity
from app.processes.process import all_pids
from tests.support.stack import Stack

BYTES_MAX = 64 << 20  # a log is smaller


def secrets_of(stack: Stack) -> dict[bytes, str]:
    """Each generated secret of the home, with its name."""
    known = json.loads((stack.home / "secrets.json").read_text())
    assert {"postgres_password", "s3_secret_key", "connect_password"} <= set(known)
    return {value.encode(): name for name, value in known.items()}


def shown_in(text: bytes, secrets: dict[bytes, str]) -> list[str]:
    return [name for value, name in secrets.items() if value in text]


def command_lines() -> Iterator[tuple[str, bytes]]:
    for pid in all_pids():
        try:
            yield f"command line of {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # it has ended


def logs(home: Path) -> Iterator[tuple[str, bytes]]:
    for path in [*home.glob("run/*/*.log*"), *home.glob("*.log*")]:
        assert path.stat().st_size < BYTES_MAX
        yield str(path), path.read_bytes()


def open_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files that a user who is neither the owner nor in the group can read."""
    for parent, folders, names in os.walk(folder):
        if not _passable(Path(parent)):
            folders.clear()
            continue
        for name in names:
            path = Path(parent, name)
            try:
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) and mode & stat.S_IROTH:
                    yield str(path), path.read_bytes()
            except FileNotFoundError:
                continue  # the services keep running meanwhile


def _passable(folder: Path) -> bool:
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def test_no_command_line_holds_a_secret(stack: Stack) -> None:
    secrets = secrets_of(stack)
    found = [(where, shown_in(text, secrets)) for where, text in command_lines()]
    assert [(where, names) for where, names in found if names] == []


def test_no_log_and_no_open_file_holds_a_secret(stack: Stack) -> None:
    secrets = secrets_of(stack)
    places = [*logs(stack.home), *open_files(stack.home)]
    if os.geteuid() == 0:
        places += open_files(Shelter(stack.home, unprivileged_identity()).folder)
    assert places
    assert [(where, shown_in(t, secrets)) for where, t in places if shown_in(t, secrets)] == []


def test_no_command_of_ours_prints_a_secret(stack: Stack) -> None:
    secrets = secrets_of(stack)
    for words in (["status", "-F", "json"], ["urls", "-F", "json"], ["logs", "connect"]):
        ended = stack.run(*words)
        shown = shown_in((ended.stdout + ended.stderr).encode(), secrets)
        # Users open the page with its address, which is printed for them.
        assert shown == (["page_token"] if words[0] == "urls" else []), words


def test_the_page_gives_nothing_to_who_has_no_token(stack: Stack) -> None:
    secrets = secrets_of(stack)
    base = stack.settings.ports.published_url("app")
    served = [requests.get(base + path, timeout=30) for path in ("/", "/page.js", "/core.js")]
    assert [one.status_code for one in served] == [200, 200, 200]
    assert [shown_in(one.content, secrets) for one in served] == [[], [], []]
    body = {"sql": "COPY (SELECT 1) TO PROGRAM 'touch /tmp/nobody'"}
    for headers in ({}, {"x-headwater-token": "x" * 32}):
        asked = [requests.get(f"{base}/api/{path}", headers=headers, timeout=30) for path in
                 ("tables", "health", "hops", "rows?table=public.customers")]  # fmt: skip
        asked.append(requests.post(f"{base}/api/sql", json=body, headers=headers, timeout=30))
        assert {one.status_code for one in asked} == {401}


def test_connect_shows_no_secret_even_to_who_may_ask(stack: Stack) -> None:
    secrets = secrets_of(stack)
    url = stack.settings.connect_url
    for path in ("", "/connectors?expand=info&expand=status", "/connectors/source/config"):
        assert shown_in(requests.get(url + path, timeout=30).content, secrets) == [], path
    assert requests.get(without_user(url) + "/connectors", timeout=30).status_code == 401
