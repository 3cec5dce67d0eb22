"""The launcher's errors are the project's: see `app.errors`."""

from app.errors import HeadwaterError

__all__ = ["HeadwaterError"]
