"""The one error that the store's commands show to a person."""

from __future__ import annotations


class StoreError(Exception):
    """A command of the store failed: what failed, what was observed, what to do.

    Args:
        message: what failed, one line.
        detail: what was observed; "" for nothing to add.
        hint: what to do; "" where there is nothing to advise.
    """

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.detail:
            lines.append(f"  detail: {self.detail}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)
