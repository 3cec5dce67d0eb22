"""The number of examples of a property."""

from __future__ import annotations

import os


def examples(count: int) -> int:
    """`count`, or a sixth of it with `HEADWATER_EXAMPLES=few`, as in `make check`."""
    return max(5, count // 6) if os.environ.get("HEADWATER_EXAMPLES") == "few" else count
