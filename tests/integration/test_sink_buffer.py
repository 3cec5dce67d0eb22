"""The sink's buffer, as it runs in Java, says after any steps what the model of the sink takes it to say.

The model is `unit/connect/sink_model.py`; what it knows of a buffer is `unit/connect/sink_buffer.py`.
"""

from __future__ import annotations

import base64
import os
import random
import subprocess
from pathlib import Path

from app.artefacts.compile import compile_sources, java
from app.artefacts.dist import Artefacts
from app.artefacts.locking.artefact_requirements import Compile
from app.environment.settings import ROOT
from spark_streaming.reading.bronze_names import first_offset
from spark_streaming.reading.bronze_proof import proof_of
from tests.unit.connect.sink_buffer import Buffer, key

RULE = Compile(jar="buffers.jar", sources="tests/support/java/buffers/java", release=17)
PREFIX = "hw.public.films/partition=0/"
HISTORIES, STEPS_MAX = 400, 14


def _history(chance: random.Random) -> tuple[str, list[str]]:
    """The steps of a random history as text, and what the model says after each."""
    kept = chance.choice([0, 3, 9_990])
    buffer = Buffer(next=kept + chance.choice([0, 2]), kept=kept, read_from=kept, stored=kept)
    buffer = buffer._replace(stored=buffer.next)
    steps, said = [f"begin:{buffer.next}:{kept}"], [_says(buffer)]
    for _ in range(chance.randint(1, STEPS_MAX)):
        step, buffer = _step(buffer, chance)
        steps.append(step)
        said.append(_says(buffer, sealed=step == "seal"))
    return " ".join(steps), said


def _step(buffer: Buffer, chance: random.Random) -> tuple[str, Buffer]:
    ahead = buffer.next + chance.choice([0, 0, 1, 4])
    steps = [
        (f"take:{ahead}", buffer.take(ahead)),
        (f"advance:{ahead}", buffer.advance(ahead)),
        ("quiet", buffer.quiet()),
    ]
    if buffer.jump_from >= 0:
        first, last = buffer.jump_from, buffer.next - 1
        steps += [
            ("verified", buffer.jumps_verified()),
            ("unknown", buffer.jumps_unknown()),
            (f"lost:{first}:{last}", buffer.dropped(first, last)),
        ]
    if buffer.sealed is not None:
        steps.append(("settled", buffer.settled()))
    elif buffer.records:
        steps.append(("seal", buffer.seal(0)))
    step, after = chance.choice(steps)
    return step, after


def _says(buffer: Buffer, *, sealed: bool = False) -> str:
    mark = buffer.mark().text("bucket", "id")
    text = f"{buffer.next} {buffer.stored} {buffer.jump_from} {mark}"
    if not sealed:
        return text
    assert buffer.sealed is not None
    return f"{text} {key(PREFIX, buffer.sealed.first)} {buffer.sealed.proof}"


def _read(line: str) -> str:
    """What Java says; in place of an object's bytes the proof that Python reads in them."""
    fields = line.split(" ")
    if len(fields) < 6:
        return line
    assert first_offset(fields[4]) >= 0
    return " ".join([*fields[:5], str(proof_of(base64.b64decode(fields[5])))])


def test_java_and_the_model_say_the_same_after_random_steps(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    histories = [_history(chance) for _ in range(HISTORIES)]
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["bronze-sink", "connect", RULE.compiler])
    libraries = sorted(artefacts.directory("bronze-sink").glob("**/*.jar"))
    libraries += artefacts.classpath("connect")
    jar = tmp_path / RULE.jar
    compiler = artefacts.classpath(RULE.compiler)
    compile_sources(ROOT, RULE, compiler=compiler, classpath=libraries, jar=jar)
    classpath = os.pathsep.join(map(str, [jar, *libraries]))
    ran = subprocess.run(
        [str(java()), "-Xmx128m", "-cp", classpath, "dev.headwater.bronze.Buffers"],
        input="\n".join(steps for steps, _ in histories),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    found = [text.strip().split("\n") for text in ran.stdout.split("\n.\n") if text.strip()]
    assert len(found) == HISTORIES
    for (steps, said), lines in zip(histories, found, strict=True):
        assert [*map(_read, lines)] == said, steps
    assert sum("seal" in steps for steps, _ in histories) > HISTORIES // 4
