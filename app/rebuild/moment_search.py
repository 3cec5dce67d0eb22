"""Finds a moment in the END records that bronze has of the source's transactions."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

from app.counts.transactions import TOPIC
from app.errors import HeadwaterError
from app.rebuild.moment import Moment, Wanted
from spark_streaming.contract.lsn import lsn_text
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.commit_log import Commit, commits_from

# Long enough: the bronze sink is seconds behind, and the source's heartbeat commits every few
# seconds.
WAIT_S = 30.0
POLL_S = 1.0


class NotReachedError(HeadwaterError):
    """Bronze has no commit after the moment yet."""


def await_moment(
    bronze: Bronze, prefix: str, wanted: Wanted, waiting: Callable[[str], None]
) -> Moment:
    """Return `find_moment`'s answer; wait for a moment that bronze may reach soon.

    Raises: HeadwaterError as `find_moment`, after WAIT_S.
    """
    limit = time.monotonic() + WAIT_S
    while True:
        try:
            return find_moment(bronze, prefix, wanted)
        except NotReachedError:
            if _is_to_come(wanted) or time.monotonic() > limit:
                raise
        waiting(f"waiting until bronze reaches {wanted.text}")
        time.sleep(POLL_S)


def _is_to_come(wanted: Wanted) -> bool:
    return wanted.time is not None and wanted.time > datetime.now(timezone.utc)


def find_moment(bronze: Bronze, prefix: str, wanted: Wanted) -> Moment:
    """Return the state of the source at an LSN or a time.

    For a time, it is the state before the first later commit.
        Raises: HeadwaterError if the moment is before the first commit that bronze has;
        NotReachedError if it is not before the last.
    """
    topic = f"{prefix}.{TOPIC}"
    last: Commit | None = None
    for commit in commits_from(bronze, topic, lambda commit: _is_later(commit, wanted)):
        if _is_later(commit, wanted):
            if last is None:
                raise HeadwaterError(
                    f"{wanted.text} is before the beginning of bronze",
                    detail=f"its first commit is at {_text(commit)}",
                    hint="choose that moment or a later one",
                )
            lsn = last.lsn if wanted.lsn is None else wanted.lsn
            return Moment(last.lsn, lsn, _time(last))
        last = commit
    if last is None:
        raise NotReachedError(
            "bronze has no commit of the source yet",
            detail=f"there is no END record of {topic}",
            hint="is the bronze sink running? `./headwater status connect capture`",
        )
    raise NotReachedError(
        f"bronze does not reach {wanted.text} yet",
        detail=f"its last commit is at {_text(last)}",
        hint="choose an earlier moment, or wait: the source's heartbeat commits every few seconds",
    )


def _is_later(commit: Commit, wanted: Wanted) -> bool:
    if wanted.lsn is not None:
        return commit.lsn > wanted.lsn
    assert wanted.time is not None
    return commit.time_ms > wanted.time.timestamp() * 1000


def _time(commit: Commit) -> datetime:
    return datetime.fromtimestamp(commit.time_ms / 1000, timezone.utc)


def _text(commit: Commit) -> str:
    return f"{lsn_text(commit.lsn)} ({_time(commit):%Y-%m-%d %H:%M:%S} UTC)"
