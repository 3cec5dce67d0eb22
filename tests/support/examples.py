"""How many examples a property is tried with."""

from __future__ import annotations

import os


def examples(count: int) -> int:
    """`count`; a sixth of it where `HEADWATER_EXAMPLES=few`, as in `make check`."""
    return max(5, count // 6) if os.environ.get("HEADWATER_EXAMPLES") == "few" else count
