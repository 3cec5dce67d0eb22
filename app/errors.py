"""The error for users: the failure, the observation, what to do."""

from __future__ import annotations


class HeadwaterError(Exception):
    """A failure that the user can understand and act on; printed without a stack trace.

    Args:
        message: what failed, one line.
        detail: what was observed; may span lines.
        log: the file that holds more.
        hint: what to do about it.
    """

    def __init__(self, message: str, *, detail: str = "", log: object = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.log = str(log)
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        for label, text in (("detail", self.detail), ("log", self.log), ("hint", self.hint)):
            if text:
                parts.append(f"  {label}: " + text.replace("\n", "\n    "))
        return "\n".join(parts)
