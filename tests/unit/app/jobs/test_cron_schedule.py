"""Schedules that cron understands are accepted; others are refused with the wrong field."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from app.jobs.cron_schedule import checked_schedule, checked_timezone, last_due


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "*/15 0-6,22-23 * * MON-fri",
        "0 2 1,15 jan-Jun/2 *",
        "30 2 29 2 *",
        "0 0 31 4 5",  # on the 31st or on a Friday: cron runs on either
        "0 0 * * 7",
    ],
)
def test_what_cron_understands_is_taken(text: str) -> None:
    assert checked_schedule(text) == text


def test_spaces_around_fields_do_not_count() -> None:
    assert checked_schedule("  0  2 * *\t*") == "0 2 * * *"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 2 * *", r"five fields .*, not 4; daily at 2:30 is \"30 2 \* \* \*\""),
        ("0 0 2 * * *", "not 6"),
        ("@daily", "not 1"),
        ("", "not 0"),
        ("60 2 * * *", "minute `60` is outside 0-59"),
        ("0 24 * * *", "hour `24` is outside 0-23"),
        ("0 2 0 * *", "day `0` is outside 1-31"),
        ("0 2 * foo *", "month `foo` is outside 1-12"),
        ("0 2 * * 8", "weekday `8` is outside 0-7"),
        ("0 22-6 * * *", "hour `22-6` ends before it begins"),
        ("*/0 * * * *", r"minute `\*/0` has an impossible step"),
        ("*/61 * * * *", "impossible step"),
        ("5/10 * * * *", "minute `5/10` is not a number, range, list or step"),
        ("0,, 2 * * *", "minute `` is not a number"),
        ("0 2 L * *", "day `L` is outside"),
        ("0 2 * * 1#2", "weekday `1#2` is not a number"),
        ("0 2 ² * *", "day `²` is outside"),
        ("0 0 31 2,4,6 *", "it would never run: none of its months has a day 31"),
        ("0 0 30 2 *", "would never run"),
    ],
)
def test_anything_else_is_refused_with_the_field_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_schedule(text)


def test_a_zone_that_does_not_exist_is_refused_with_the_one_that_was_meant() -> None:
    assert checked_timezone("Europe/Berlin") == "Europe/Berlin"
    with pytest.raises(
        ValueError, match="no time zone `Europe/Berlim`; did you mean `Europe/Berlin`"
    ):
        checked_timezone("Europe/Berlim")
    for wrong in ("../../etc/passwd", "/etc/localtime", "", "Ä"):
        with pytest.raises(ValueError, match="there is no time zone"):
            checked_timezone(wrong)


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "expected"),
    [
        ("30 2 * * *", "UTC", "2026-03-05 02:30", "2026-03-05 02:30"),
        ("30 2 * * *", "UTC", "2026-03-05 02:29", "2026-03-04 02:30"),
        ("*/15 8-9 * * *", "UTC", "2026-03-05 12:00", "2026-03-05 09:45"),
        ("0 3 * * mon", "UTC", "2026-03-05 12:00", "2026-03-02 03:00"),
        ("0 3 * * 7", "UTC", "2026-03-05 12:00", "2026-03-01 03:00"),
        ("0 3 1 * *", "UTC", "2026-03-05 12:00", "2026-03-01 03:00"),
        ("0 3 1 * wed", "UTC", "2026-03-05 12:00", "2026-03-04 03:00"),  # either suffices
        ("0 0 29 2 *", "UTC", "2026-03-05 12:00", "2024-02-29 00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-01-05 12:00", "2026-01-05 01:30"),
        # Clocks went from 2:00 to 3:00 on 29 March.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29 12:00", "2026-03-28 01:30"),
        ("30 3 * * *", "Europe/Berlin", "2026-03-29 12:00", "2026-03-29 01:30"),
    ],
)
def test_the_latest_time_at_which_a_schedule_was_due(
    schedule: str, zone: str, now: str, expected: str
) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=timezone.utc)
    found = last_due(schedule, zone, at)
    assert found == datetime.fromisoformat(expected).replace(tzinfo=timezone.utc)
