"""Removes values of masked columns from the texts of a quarantine entry.

Everyone who may query `ops` can read the entries; `headwater quarantine show` shows the event
itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from spark_streaming.contract.names import silver_columns

MASKED = "(masked)"
# The wording of `convert`'s message.
_UNFIT = re.compile(r"column .+? \(.+?\) cannot hold ", re.DOTALL)


@dataclass(frozen=True)
class Hiding:
    """The masks of one table, applied to the texts of its entries.

    Args:
        columns: the masked columns, as silver names them.
        everything: whether to hide all values, because the masks are not known.
    """

    columns: frozenset[str] = frozenset()
    everything: bool = False

    def key(self, text: str | None) -> str | None:
        """A message key without the values of masked columns; unchanged if it has none."""
        if text is None or self == Hiding():
            return text
        try:
            found = json.loads(text)
        except ValueError:
            return MASKED
        if not isinstance(found, dict):
            return MASKED
        if not any(self._hides(name) for name in found):
            return text
        return json.dumps(self._shown(found), ensure_ascii=False, separators=(",", ":"))

    def reason(self, text: str) -> str:
        """A reason that does not quote a masked column's value."""
        for name in self.columns:
            start = f"column {name} ("
            end = text.find(" cannot hold ", len(start))
            if text.startswith(start) and end > 0:
                return f"{text[:end]} cannot hold its value {MASKED}"
        if self.everything and (found := _UNFIT.match(text)):
            return f"{found[0]}its value {MASKED}"
        return text

    def values(self, text: str) -> str:
        """A JSON object of column -> text without the values of masked columns."""
        return json.dumps(self._shown(json.loads(text)), ensure_ascii=False)

    def _shown(self, values: Mapping[str, object]) -> dict[str, object]:
        return {
            name: MASKED if self._hides(name) and value is not None else value
            for name, value in values.items()
        }

    def _hides(self, name: str) -> bool:
        # Events name columns as the source does, contract files as silver does.
        return self.everything or bool({name, *silver_columns([name])} & self.columns)
