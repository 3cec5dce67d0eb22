"""`python -m app`: the command line."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from app.cli import first


def run() -> NoReturn:
    """Run one command, and leave without taking the interpreter down.

    Native threads of Arrow's scans may still wind up then, and their library aborts the process
    ("terminate called without an active exception", exit code 134), with all the work done.
    """
    try:
        first.end_if_answered()
        from app.cli.main import main

        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
