"""The processes that answer the page's questions."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

from app.page.answers import Refused
from app.page.lake_child import Child, Lasting
from tests.support.waiting import until

# Answers with what it was given.
ECHO = [
    sys.executable,
    "-c",
    "import json, sys; print(json.dumps([sys.argv[1:], json.load(sys.stdin)]))",
]

LASTING = (
    "import json, os, sys, time\n"
    "for line in sys.stdin:\n"
    "    given = json.loads(line)\n"
    "    if given == 'end': sys.exit(1)\n"
    "    if given == 'sleep': time.sleep(60)\n"
    "    failed = {'failed': 'it failed\\n  detail: so'}\n"
    "    answer = {'pid': os.getpid(), 'given': given}\n"
    "    print(json.dumps(failed if given == 'fail' else answer), flush=True)\n"
)


def test_a_process_is_kept_for_the_next_question_and_one_that_ended_is_replaced() -> None:
    asked = Lasting([sys.executable, "-c", LASTING])
    try:
        first = asked.ask({"a": "ä"})
        assert first["given"] == {"a": "ä"}
        with pytest.raises(Refused, match="it failed") as refused:
            asked.ask("fail")
        assert (refused.value.status, refused.value.facts["detail"]) == (502, "detail: so")
        assert asked.ask(1)["pid"] == first["pid"]
        os.kill(first["pid"], signal.SIGKILL)
        second = asked.ask(2)["pid"]
        assert second != first["pid"]
        with pytest.raises(Refused, match="ended"):
            asked.ask("end")
        assert asked.ask(3)["pid"] not in (first["pid"], second)
    finally:
        asked.close()


def test_a_process_that_nobody_asks_or_that_does_not_answer_is_ended() -> None:
    idle = Lasting([sys.executable, "-c", LASTING], idle_s=0.05)
    silent = Lasting([sys.executable, "-c", LASTING], timeout_s=1)
    try:
        pid = idle.ask(1)["pid"]
        until(lambda: not psutil.pid_exists(pid), within_s=30, what="the end of the idle process")
        assert idle.ask(2)["given"] == 2
        with pytest.raises(Refused, match="no answer within 1 s"):
            silent.ask("sleep")
    finally:
        idle.close()
        silent.close()


def test_a_question_is_answered_by_a_process_or_told_in_its_words() -> None:
    assert Child(ECHO).ask("x", given={"a": "ä"}).document == [["x"], {"a": "ä"}]
    warned = "import sys; print('[1]'); print('open', file=sys.stderr); sys.exit(1)"
    assert Child([sys.executable, "-c", warned]).ask() == ([1], "open")
    failing = "import sys; print('it failed\\n  detail: so', file=sys.stderr); sys.exit(1)"
    for script, status, told in (
        (failing, 502, {"message": "it failed", "detail": "detail: so"}),
        ("import sys; sys.exit(3)", 502, {"message": "exit code 3"}),
        ("import time; time.sleep(60)", 503, {"message": "there was no answer within 1 s"}),
    ):
        with pytest.raises(Refused, match="") as refused:
            Child([sys.executable, "-c", script], timeout_s=1).ask()
        assert (refused.value.status, refused.value.facts) == (status, told)
