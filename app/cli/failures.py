"""Shows a failure: one message on stderr; a stack trace only if the user asks for it."""

from __future__ import annotations

import re
import sys
import traceback

from app.errors import HeadwaterError

DEBUG = "--debug"


def show(error: Exception, *, debug: bool) -> None:
    """Print a failure on stderr: the failure, the observation, what to do."""
    if debug:
        traceback.print_exception(error)
        return
    from app.environment.toml_files import SettingsError

    if isinstance(error, OSError) and "S3 error" in str(error):
        # delta-rs prints a tree of causes in colours; the last line is the actual error.
        last = re.sub(r"\x1b\[\d*m|↳", "", str(error)).strip().splitlines()[-1].strip()
        error = HeadwaterError(
            "the object store does not answer", detail=last, hint="see `./headwater status s3`"
        )
    if isinstance(error, (HeadwaterError, SettingsError)):
        text = str(error).replace("\nhint:", "\n  hint:")
    else:
        text = (
            f"unexpected {type(error).__name__}: {error}\n"
            f"  hint: this is a defect; run it again with {DEBUG} and report what it prints"
        )
    print(text, file=sys.stderr)
