"""Shows a failure: one message on stderr; a stack trace only if the user asks for it."""

from __future__ import annotations

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

    if "S3 error" in str(error) and not isinstance(error, HeadwaterError):
        from spark_streaming.storage.s3_request import store_cause

        error = HeadwaterError(
            "the object store does not answer as it should",
            detail=store_cause(error),
            hint="see `./headwater status s3`",
        )
    if isinstance(error, (HeadwaterError, SettingsError)):
        text = str(error).replace("\nhint:", "\n  hint:")
    else:
        text = (
            f"unexpected {type(error).__name__}: {error}\n"
            f"  hint: this is a defect; run it again with {DEBUG} and report what it prints"
        )
    print(text, file=sys.stderr)
