"""The lines of docker-compose.yml that hand the keys of a profile on to the service `config`."""

from __future__ import annotations

import re
from pathlib import Path

from app.environment.profile import Profile
from app.environment.settings import ROOT

COMPOSE_FILE = ROOT / "docker-compose.yml"
_BLOCK = re.compile(
    r"(?P<start> *# The keys of a profile: .*\n)(?:.*\n)*?(?P<end> *# End of the keys\.\n)"
)
# Less than natively: its container has a limit, and Python's half of the job is in it too.
_DEFAULTS = {"silver_heap_mb": "768"}


def with_keys(text: str) -> str:
    """Return the compose file with a line for each key that a user may set for containers."""
    names = [(name, f"HEADWATER_{name.upper()}") for name in Profile.container_keys()]
    lines = [f"      {var}: ${{{var}:-{_DEFAULTS.get(name, '')}}}\n" for name, var in names]
    return _BLOCK.sub(lambda found: found["start"] + "".join(lines) + found["end"], text)


def renew_compose(path: Path = COMPOSE_FILE) -> bool:
    """Write the lines again; return whether they changed."""
    text = path.read_text(encoding="utf-8")
    wanted = with_keys(text)
    if wanted != text:
        path.write_text(wanted, encoding="utf-8")
    return wanted != text
