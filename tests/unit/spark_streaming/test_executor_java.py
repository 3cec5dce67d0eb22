"""The `java` with which Spark's workers start an executor."""

from __future__ import annotations

import subprocess
from pathlib import Path

from spark_streaming.spark_home import HERE

INCUBATOR = "--add-modules=jdk.incubator.vector"


def test_an_executor_gets_every_option_but_the_module_that_the_jre_does_not_have(
    tmp_path: Path,
) -> None:
    jre = tmp_path / "jre"
    jre.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    jre.chmod(0o755)
    words = ["-Xmx1g", INCUBATOR, "-Dname=two words", "", "Main"]
    ended = subprocess.run(
        [HERE / "bin" / "java", *words],
        env={"HEADWATER_SPARK_JAVA": str(jre)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split("\n")[:-1] == ["-Xmx1g", "-Dname=two words", "", "Main"]
