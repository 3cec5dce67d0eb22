"""What the check of a part of a profile finds."""

from __future__ import annotations

from dataclasses import dataclass

from app.source.findings import MISSING, OK

OURS = "the stack's own"


@dataclass(frozen=True)
class Checked:
    """The result of one check of a part.

    Args:
        status: `ok`, `note` (works, and the user should know), `left out` or `missing`.
        mend: the complete repair or grant, such as a source's statements.
        todo: the same in one line.
    """

    part: str
    check: str
    status: str
    observed: str
    mend: str = ""
    todo: str = ""

    @property
    def stands_in_the_way(self) -> bool:
        return self.status == MISSING


def answering(part: str, check: str, trouble: str, todo: str) -> Checked:
    if trouble:
        return told(part, check, MISSING, trouble, todo)
    return Checked(part, check, OK, "answers")


def told(part: str, check: str, status: str, observed: str, mend: str) -> Checked:
    return Checked(part, check, status, observed, mend, " ".join(mend.split()))
