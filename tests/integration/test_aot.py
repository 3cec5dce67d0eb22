"""The downloaded JRE writes an AOT cache and starts from it, with the options of services."""

from __future__ import annotations

import subprocess
from pathlib import Path

from app.artefacts.compile import share_classes
from app.artefacts.dist import Artefacts
from app.launcher.aot import AotCaches
from app.services.service import Service
from tests.support.stack import ROOT

CLASS = "kafka.tools.StorageTool"
COMMAND = ["${java}", "@${aot}", "-cp", "${classpath.kafka}", CLASS, "random-uuid"]


def test_what_the_first_run_wrote_is_where_the_second_gets_its_classes(tmp_path: Path) -> None:
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["kafka"])
    share_classes(artefacts.java())
    options = tmp_path / "a folder" / "aot.options"
    options.parent.mkdir()
    jars = ":".join(map(str, artefacts.classpath("kafka")))
    values = {"java": str(artefacts.java()), "python": "python", "classpath.kafka": jars}
    body = {"name": "tool", "description": "a tool", "folder": ROOT, "command": COMMAND}
    tool = Service.model_validate(body)
    caches = AotCaches(tmp_path / "a cache")
    caches.recording = True

    def run() -> str:
        caches.begin(tool, values.__getitem__, options)
        command = [values["java"], f"@{options}", "-Xlog:class+load:stdout", "-cp", jars, CLASS]
        ran = subprocess.run(
            [*command, "random-uuid"], capture_output=True, text=True, check=True, timeout=120
        )
        caches.ended(tool, 0, asked=True, ready=True)
        line, *_ = [
            line for line in ran.stdout.splitlines() if f" {CLASS} source:" in line
        ]  # a child may write too
        return line.partition("source: ")[2]

    assert run().endswith(".jar")
    assert len(list(caches.folder.iterdir())) == 1
    assert "shared objects file" in run()
