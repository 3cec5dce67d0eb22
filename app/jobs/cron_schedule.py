"""Checks schedules: five cron fields, and the time zone in which they apply.

Only what every cron and Dagster understand is accepted: `*`, numbers, names, lists, ranges, steps.
`L`, `#`, seconds and `@reboot` are refused, because not every cron has them.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DAYS_BACK_MAX = 8 * 366  # from one 29 February to the next, across 1900 or 2100
_ITEM = re.compile(
    r"(?P<all>\*)(?:/(?P<every>\d+))?|(?P<first>\w+)(?:-(?P<last>\w+)(?:/(?P<step>\d+))?)?"
)


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> set[int]:
        """Return the numbers that a field matches. Raises: ValueError with the wrong part."""
        return {number for item in text.split(",") for number in self._item(item)}

    def _item(self, item: str) -> range:
        found = _ITEM.fullmatch(item)
        if found is None:
            raise ValueError(f"{self.name} `{item}` is not a number, range, list or step")
        if found["all"]:
            first, last = self.low, self.high
        else:
            first = self._number(found["first"])
            last = self._number(found["last"]) if found["last"] else first
        if first > last:
            raise ValueError(f"{self.name} `{item}` ends before it begins")
        step = int(found["every"] or found["step"] or 1)
        if not 1 <= step <= self.high - self.low + 1:
            raise ValueError(f"{self.name} `{item}` has an impossible step")
        return range(first, last + 1, step)

    def _number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        if not text.isdecimal() or not self.low <= int(text) <= self.high:
            raise ValueError(f"{self.name} `{text}` is outside {self.low}-{self.high}")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _DAYS),  # 0 and 7 are Sunday
)


def checked_schedule(text: str) -> str:
    """Return the schedule with single spaces. Raises: ValueError saying which field is wrong and how."""
    words = text.split()
    if len(words) != len(_FIELDS):
        raise ValueError(
            f"a schedule has five fields (minute, hour, day, month, weekday), not {len(words)}; "
            'daily at 2:30 is "30 2 * * *"'
        )
    values = [field.values(word) for field, word in zip(_FIELDS, words, strict=True)]
    _, _, days, months, _ = values
    # If a weekday is given, cron runs on either; otherwise one of the months must have such a day.
    if words[4] == "*" and min(days) > max(_MONTH_DAYS[month - 1] for month in months):
        raise ValueError(f"it would never run: none of its months has a day {min(days)}")
    return " ".join(words)


def checked_timezone(name: str) -> str:
    """Return the name. Raises: ValueError if there is no such time zone, with a similar name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        guess = difflib.get_close_matches(name, available_timezones(), n=1)
        meant = f"did you mean `{guess[0]}`?" if guess else "write it as `Europe/Berlin` or `UTC`"
        raise ValueError(f"there is no time zone `{name}`; {meant}") from None
    return name


def last_due(schedule: str, zone: str, now: datetime) -> datetime | None:
    """Return the latest time at or before `now` at which a schedule is due, in UTC; None if there is none.

    On a day when clocks are set forward, the times that do not exist are skipped.
    """
    words = checked_schedule(schedule).split()
    minutes, hours, days, months, weekdays = (
        field.values(word) for field, word in zip(_FIELDS, words, strict=True)
    )
    weekdays = {day % 7 for day in weekdays}

    def holds(day: date) -> bool:
        by_day, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        # If both are given, cron runs on either.
        either = words[2] != "*" and words[4] != "*"
        return day.month in months and (by_day or by_weekday if either else by_day and by_weekday)

    local = now.astimezone(ZoneInfo(zone))
    for back in range(DAYS_BACK_MAX):
        day = local.date() - timedelta(days=back)
        if not holds(day):
            continue
        for hour in sorted(hours, reverse=True):
            for minute in sorted(minutes, reverse=True):
                at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=local.tzinfo)
                found = at.astimezone(timezone.utc)
                exists = found.astimezone(local.tzinfo).replace(tzinfo=None) == at.replace(
                    tzinfo=None
                )
                if exists and found <= now:
                    return found
    return None
