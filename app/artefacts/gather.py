"""Copies artefact groups to a folder of an image: `python -m app.artefacts.gather FOLDER GROUP…`.

Runs while an image is built. Each group becomes FOLDER/GROUP, as `${dir.GROUP}` has it natively.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from app.artefacts.dist import Artefacts
from app.errors import HeadwaterError


def main(arguments: list[str]) -> int:
    """Fetch and build the groups, and copy them; the exit code is 0 when they are whole."""
    folder, groups = Path(arguments[0]), arguments[1:]
    try:
        artefacts = Artefacts(Path.cwd())
        artefacts.prepare(groups)
        for group in groups:
            # Links into the cache become files, because the cache is not in the image.
            shutil.copytree(artefacts.directory(group), folder / group)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
