"""Trino's plugin that records refused sign-ins, loaded as Trino loads it, and read as the audit reads it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from app.artefacts.compile import compile_sources, java
from app.artefacts.dist import Artefacts
from app.artefacts.locking.artefact_requirements import Compile
from spark_streaming.streams.audit.refused_sign_ins import FILE, RefusedSignIns
from spark_streaming.streams.stream_event import Event

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "the word of ana"
# Each of args[2…] signs in with PASSWORD.
SIGN_IN = f"""package dev.signs;
import io.trino.spi.Plugin;
import io.trino.spi.security.*;
import java.util.*;
public class SignIn {{
  public static void main(String[] args) {{
    for (Plugin plugin : ServiceLoader.load(Plugin.class)) {{
      for (PasswordAuthenticatorFactory factory : plugin.getPasswordAuthenticatorFactories()) {{
        PasswordAuthenticator known = factory.create(Map.of("record", args[0], "file", args[1]));
        for (String user : Arrays.asList(args).subList(2, args.length)) {{
          try {{ System.out.println(known.createAuthenticatedPrincipal(user, "{PASSWORD}")); }}
          catch (AccessDeniedException refused) {{ System.out.println(refused.getMessage()); }}
        }}
      }}
    }}
  }}
}}
"""
REFUSED = "Access Denied: Invalid credentials"
SignIn = Callable[..., list[str]]


@pytest.fixture(scope="module")
def sign_in(tmp_path_factory: pytest.TempPathFactory) -> SignIn:
    folder = tmp_path_factory.mktemp("signs")
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["trino-sign-ins"])
    libraries = [*artefacts.classpath("trino-spi"), *artefacts.classpath("trino-sign-ins")]
    (folder / "java").mkdir()
    (folder / "java" / "SignIn.java").write_text(SIGN_IN)
    rule = Compile(jar="signs.jar", sources="java")
    jar = folder / rule.jar
    compile_sources(folder, rule, compiler=artefacts.classpath("ecj"), classpath=libraries, jar=jar)

    def run(file: Path, *users: str, record: str = "True") -> list[str]:
        path = ":".join(map(str, [jar, *libraries]))
        command = [
            str(java()),
            "-Xmx64m",
            "-cp",
            path,
            "dev.signs.SignIn",
            record,
            str(file),
            *users,
        ]
        ran = subprocess.run(command, capture_output=True, check=True, timeout=120)
        return ran.stdout.decode().splitlines()

    return run


def rows(home: Path) -> list[Event]:
    read = RefusedSignIns(home)
    assert read.found() == []  # it renames the file
    found = read.found()
    read.keep()
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / FILE).parent.mkdir()
    return tmp_path / FILE


def test_whoever_comes_to_it_is_refused_and_recorded_without_the_password(
    sign_in: SignIn, file: Path, tmp_path: Path
) -> None:
    names = ["ana", 'e"v\\e\n', "ünï 𝄞", "x" * 300]
    assert sign_in(file, *names) == [REFUSED] * 4
    assert file.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.read_text()
    found = rows(tmp_path)
    assert [one.values["user_name"] for one in found] == [*names[:3], "x" * 200]
    assert {one.values["kind"] for one in found} == {"refused"}
    assert len({one.key for one in found}) == 4
    assert list(file.parent.iterdir()) == []


def test_a_flood_is_recorded_by_its_number(sign_in: SignIn, file: Path, tmp_path: Path) -> None:
    assert sign_in(file, *["eve"] * 500) == [REFUSED] * 500
    count = Counter(one.values["user_name"] for one in rows(tmp_path))
    assert 60 <= count["eve"] <= 120  # the second 60 only where a minute has ended meanwhile


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) - 1])
def test_a_file_that_nobody_reads_has_a_limit(sign_in: SignIn, file: Path, size: int) -> None:
    file.write_bytes(b"\n" * size)
    assert sign_in(file, "ana", "eve") == [REFUSED] * 2
    assert len(file.read_text().split()) == (0 if size == 1 << 20 else 1)


def test_without_the_audit_or_a_file_that_can_be_written_it_refuses_all_the_same(
    sign_in: SignIn, file: Path
) -> None:
    assert sign_in(file, "ana", record="False") == [REFUSED]
    assert not file.exists()
    assert sign_in(file.parent / "nowhere" / "file", "ana", "eve") == [REFUSED] * 2
