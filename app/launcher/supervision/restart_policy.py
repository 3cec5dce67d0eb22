"""When a service that failed is started again: pure, from its failures and the policy of its description."""

from __future__ import annotations

import math

from app.launcher.supervision.unit import RUNNING, Unit

# A service that has never been ready has failed after two attempts: a person waits for `up`.
FIRST_START_ATTEMPTS = 2
# A failed service is still restarted, because the cause may pass; the pause doubles.
FAILED_RETRY_S, FAILED_RETRY_MAX_S = 30.0, 300.0
# If a service was ready for this long before it ended, its restart waits only the shortest pause.
STEADY_S = 30.0


def count_failure(unit: Unit, now: float, *, dependency_down: bool, final: bool = False) -> None:
    """Move a unit whose attempt failed to `backoff` or `failed`, and set when it is tried again.

    Args:
        dependency_down: a dependency is down, so this failure does not count.
        final: no further attempt would help soon: it has failed.
    """
    restart = unit.service.restart
    unit.failures = [at for at in unit.failures if at > now - restart.window_s]
    if dependency_down:
        unit.attempts -= 1
    else:
        unit.failures.append(now)
        was_steady = unit.state in RUNNING and now - unit.ready_since >= STEADY_S
        unit.failures_in_row = 1 if was_steady else unit.failures_in_row + 1
    if final or _exhausted(unit):
        unit.times_failed += 1
        pause_s = FAILED_RETRY_S * 2.0 ** min(unit.times_failed - 1, 10)
        never = restart.policy == "never"
        unit.retry_at = math.inf if never else now + min(FAILED_RETRY_MAX_S, pause_s)
        unit.move_to("failed", now)
        return
    wait_s = restart.backoff_s * 2.0 ** max(unit.failures_in_row - 1, 0)
    unit.retry_at = now + min(restart.backoff_max_s, wait_s)
    unit.move_to("backoff", now)


def _exhausted(unit: Unit) -> bool:
    """Whether the policy allows no further attempt for now."""
    restart = unit.service.restart
    first_start = unit.service.kind == "service" and not unit.ever_ready
    return (
        restart.policy == "never"
        or len(unit.failures) > restart.max_restarts
        or (first_start and unit.attempts >= FIRST_START_ATTEMPTS)
    )
