"""The compiler on the downloaded JRE: Java sources become a working jar, and errors are reported."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from app.artefacts.compile import compile_sources, java, require_java, sources_hash
from app.artefacts.dist import Artefacts
from app.artefacts.locking.artefact_requirements import Compile
from app.errors import HeadwaterError

ROOT = Path(__file__).resolve().parents[2]
RULE = Compile(jar="hello.jar", sources="java", resources="resources", release=17)
HELLO = """package dev.hello;
public class Hello {
  record Line(String text) {}
  public static void main(String[] args) { System.out.println(new Line("ünï " + args[0]).text()); }
}
"""


@pytest.fixture(scope="module")
def compiler() -> list[Path]:
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["ecj"])
    return artefacts.classpath("ecj")


def write(root: Path, source: str) -> None:
    (root / "java/dev/hello").mkdir(parents=True)
    (root / "java/dev/hello/Hello.java").write_text(source, encoding="utf-8")
    (root / "resources/META-INF/services").mkdir(parents=True)
    (root / "resources/META-INF/services/dev.Greeting").write_text("dev.hello.Hello\n")


def test_sources_become_a_jar_that_runs_with_its_resources(
    tmp_path: Path, compiler: list[Path]
) -> None:
    write(tmp_path, HELLO)
    jar = tmp_path / RULE.jar
    compile_sources(tmp_path, RULE, compiler=compiler, classpath=[], jar=jar)
    command = [str(java()), "-Dstdout.encoding=UTF-8", "-cp", str(jar), "dev.hello.Hello", "you"]
    ran = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert ran.stdout.decode() == "ünï you\n"
    with zipfile.ZipFile(jar) as content:
        assert content.read("META-INF/services/dev.Greeting") == b"dev.hello.Hello\n"


def test_the_same_sources_give_the_same_jar(tmp_path: Path, compiler: list[Path]) -> None:
    write(tmp_path, HELLO)
    jars = [tmp_path / "one.jar", tmp_path / "two.jar"]
    for jar in jars:
        compile_sources(tmp_path, RULE, compiler=compiler, classpath=[], jar=jar)
    assert jars[0].read_bytes() == jars[1].read_bytes()


def test_a_mistake_is_told_with_file_and_line_and_leaves_no_jar(
    tmp_path: Path, compiler: list[Path]
) -> None:
    write(tmp_path, HELLO.replace("new Line", "new Lime"))
    with pytest.raises(HeadwaterError, match="cannot compile java") as caught:
        compile_sources(tmp_path, RULE, compiler=compiler, classpath=[], jar=tmp_path / "x.jar")
    assert "Hello.java (at line 4)" in caught.value.detail
    assert "Lime cannot be resolved" in caught.value.detail
    assert not (tmp_path / "x.jar").exists()


def test_a_changed_source_or_resource_changes_the_hash(tmp_path: Path) -> None:
    write(tmp_path, HELLO)
    hashes = {sources_hash(tmp_path, RULE)}
    (tmp_path / "java/dev/hello/Hello.java").write_text(HELLO + "\n")
    hashes.add(sources_hash(tmp_path, RULE))
    (tmp_path / "resources/META-INF/services/dev.Greeting").write_text("")
    hashes.add(sources_hash(tmp_path, RULE))
    assert len(hashes) == 3


def test_the_java_runtime_starts() -> None:
    require_java()
