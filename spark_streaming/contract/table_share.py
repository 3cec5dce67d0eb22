"""Decides which tables a silver job works on if several jobs share those of one source.

The setting gives each further job its patterns, in the form of `capture_choice`; the first job has
all other tables. A pattern is matched with the table's name in its topic, in which `_` replaces
characters that Kafka refuses. Every job reads the topics of schema `headwater`, which show how far
the source was read.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from spark_streaming.capture_choice import patterns
from spark_streaming.contract.names import INTERNAL_SCHEMA, topic_of

# Separates the jobs in an environment variable; no pattern contains it.
SEPARATOR = "|"
FIRST = 1
_SPECIAL = {"*": "(?s:.*)", "?": "(?s:.)"}


class ShareKeys(Protocol):
    """The settings of a job that say which tables it has."""

    @property
    def silver_job(self) -> int: ...
    @property
    def silver_shares(self) -> str: ...


@dataclass(frozen=True)
class TableShare:
    """The tables of one job.

    Args:
        number: the job's number, from 1.
        further: the patterns of the jobs from 2 on.
    """

    number: int = FIRST
    further: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of_settings(cls, settings: ShareKeys) -> TableShare:
        """Return the share of the job that has these settings."""
        return cls.of(settings.silver_job, settings.silver_shares)

    @classmethod
    def of(cls, number: int, setting: str) -> TableShare:
        """Return a job's share of the tables. Raises: ValueError for text that is not a pattern.

        Args:
            setting: the patterns of each further job, with SEPARATOR between the jobs.
        """
        further = jobs_of(setting)
        return cls(number if further else FIRST, further)

    def has_topic(self, topic: str, prefix: str) -> bool:
        """Whether the job reads a topic."""
        return re.fullmatch(self.topic_pattern(prefix), topic) is not None

    def has(self, schema: str, table: str) -> bool:
        """Whether the job keeps a table of the source."""
        return schema != INTERNAL_SCHEMA and self.job_of(schema, table) == self.number

    def job_of(self, schema: str, table: str) -> int:
        """Return the number of the job that keeps a table of the source."""
        return self.job_of_topic(topic_of("p", schema, table), "p")

    def job_of_topic(self, topic: str, prefix: str) -> int:
        """Return the number of the job that keeps a topic's table."""
        name = topic.removeprefix(f"{prefix}.")
        for number, given in enumerate(self.further, FIRST + 1):
            if re.fullmatch(_either(given), name):
                return number
        return FIRST

    def topic_pattern(self, prefix: str) -> str:
        """Return the regular expression, of Java and Python, of the topics that the job reads."""
        head = rf"{re.escape(prefix)}\."
        if not self.further:
            return rf"{head}[^.]+\..+"
        own = r"[^.]+\..+" if self.number == FIRST else _either(self.further[self.number - 2])
        others = self.further if self.number == FIRST else self.further[: self.number - 2]
        no_other = f"(?!(?:{'|'.join(map(_either, others))})$)" if others else ""
        internal = rf"{re.escape(INTERNAL_SCHEMA)}\..+"
        return rf"{head}(?:{internal}|(?!{internal}){no_other}(?:{own}))"

    def checkpoint(self, url: str) -> str:
        """Return the address of the job's checkpoint; `url` is that of a job with all tables."""
        return f"{url}.{self.number}of{self.name}" if self.further else url

    @property
    def name(self) -> str:
        """The name of the split between the jobs: their number, and a digest of the patterns."""
        if not self.further:
            return "1"
        text = SEPARATOR.join(",".join(one) for one in self.further)
        return f"{1 + len(self.further)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def jobs_of(setting: str) -> tuple[tuple[str, ...], ...]:
    """Return the patterns of each further job. Raises: ValueError for an invalid pattern."""
    if not setting:
        return ()
    found = tuple(patterns(one, parts=2) for one in setting.split(SEPARATOR))
    if not all(found):
        raise ValueError("a job without a table")
    return found


def _either(given: tuple[str, ...]) -> str:
    return "|".join(
        "".join(_SPECIAL.get(character) or re.escape(character) for character in pattern)
        for pattern in given
    )
