"""The part of Connect's REST interface that tests need."""

from __future__ import annotations

from typing import Any

import requests

from tests.support.waiting import until

TIMEOUT_S = 30


class Connectors:
    """The connectors of one worker."""

    def __init__(self, url: str) -> None:
        self._url = url

    def put(self, name: str, config: dict[str, str]) -> None:
        """Create or change a connector."""
        answer = requests.put(self._at(name, "config"), json=config, timeout=TIMEOUT_S)
        assert answer.ok, answer.text

    def errors(self, config: dict[str, str]) -> list[str]:
        """The worker's errors in a configuration, by its own rules and the plugin's."""
        plugin = config["connector.class"].rsplit(".", 1)[1]
        answer = requests.put(
            f"{self._url}/connector-plugins/{plugin}/config/validate",
            json={"name": "checked", **config},
            timeout=TIMEOUT_S,
        )
        assert answer.ok, answer.text
        return [text for entry in answer.json()["configs"] for text in entry["value"]["errors"]]

    def delete(self, name: str) -> None:
        requests.delete(self._at(name), timeout=TIMEOUT_S)

    def shown(self, name: str) -> str:
        """Everything that the interface returns about a connector, as text."""
        parts = ("", "config", "status", "tasks", "tasks-config")
        return "".join(requests.get(self._at(name, p), timeout=TIMEOUT_S).text for p in parts)

    def task(self, name: str) -> dict[str, Any]:
        """Its first task: `state`, and `trace` if it has failed."""
        return dict(requests.get(self._at(name, "status"), timeout=TIMEOUT_S).json()["tasks"][0])

    def await_state(self, name: str, state: str, *, within_s: float = 120) -> dict[str, Any]:
        def observed() -> dict[str, Any]:
            return self.task(name)

        return until(
            observed, lambda t: t["state"] == state, within_s=within_s, what=f"`{name}` {state}"
        )

    def restart(self, name: str) -> None:
        requests.post(
            self._at(name, "restart?includeTasks=true&onlyFailed=true"), timeout=TIMEOUT_S
        )

    def restart_task(self, name: str) -> None:
        """Restart the first task, like `capture` for a new table."""
        requests.post(self._at(name, "tasks/0/restart"), timeout=TIMEOUT_S)

    def stop(self, name: str) -> None:
        """End its tasks; its committed offsets stay."""
        requests.put(self._at(name, "stop"), timeout=TIMEOUT_S)
        url = self._at(name, "status")
        until(
            lambda: requests.get(url, timeout=TIMEOUT_S).json(),
            lambda s: s["connector"]["state"] == "STOPPED" and not s["tasks"],
            within_s=60,
            what=f"`{name}` stopped",
        )

    def resume(self, name: str) -> None:
        requests.put(self._at(name, "resume"), timeout=TIMEOUT_S)

    def committed(self, name: str, topic: str) -> int:
        """The offset that its group has committed for partition 0 of a topic; -1 for none."""
        offsets = requests.get(self._at(name, "offsets"), timeout=TIMEOUT_S).json()["offsets"]
        for entry in offsets:
            if entry["partition"] == {"kafka_topic": topic, "kafka_partition": 0}:
                return int(entry["offset"]["kafka_offset"])
        return -1

    def _at(self, name: str, part: str = "") -> str:
        return f"{self._url}/connectors/{name}" + (f"/{part}" if part else "")
