"""`headwater urls`: where to reach each part."""

from __future__ import annotations

from app.cli.needs import open_stack
from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_object


def urls(fmt: Format = FORMAT_OPTION) -> None:
    """Print where to reach each part.

    Examples:
      ./headwater urls
      ./headwater urls --format json
    """
    from app.artefacts.lazy import LazyArtefacts
    from app.environment.settings import ROOT

    print_object(open_stack().urls(LazyArtefacts(ROOT)), fmt)
