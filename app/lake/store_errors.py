"""The cause in an object store's error, of obstore or delta-rs."""

from __future__ import annotations

import re

from spark_streaming.storage.s3_request import error_of

_COLOURS = re.compile(r"\x1b\[\d*m|↳")
_ANSWER = re.compile(r"<Error\b.*?</Error>", re.DOTALL)


def store_cause(error: Exception) -> str:
    """Return the store's code and message, or the last line of the error without its tree of causes."""
    text = _COLOURS.sub("", str(error)).partition("\n\nDebug source")[0].strip()
    if answer := _ANSWER.search(text):
        code, message = error_of(answer[0].encode())
        if code:
            return f"{code}: {message}"
    return text.splitlines()[-1].strip() if text else type(error).__name__
