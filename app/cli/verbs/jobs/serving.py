"""`headwater job published`, `reader`: the published tables, and the address for applications."""

from __future__ import annotations

from app.cli.options import FORMAT_OPTION
from app.printing import Format, print_object, print_rows


def published(fmt: Format = FORMAT_OPTION) -> None:
    """List the serving database's tables: their version, how far they are complete, their rows.

    Examples:
      ./headwater job published
    """
    from app.environment.settings import load
    from app.serving.serving_address import PUBLICATION_COLUMNS, publications

    print_rows(PUBLICATION_COLUMNS, publications(load()), fmt)


def reader(fmt: Format = FORMAT_OPTION) -> None:
    """Print the address of the serving database, and the role and password that only read.

    Where `serving_dsn` names a database of your own, the roles are yours: no password is known here.

    Examples:
      ./headwater job reader
    """
    from app.environment.settings import load
    from app.serving.serving_address import reader_address

    print_object(reader_address(load()), fmt)
