"""Options that several verbs share."""

from __future__ import annotations

import typer

from app.printing import Format

FORMAT_OPTION = typer.Option(Format.table, "--format", "-F", help="How to print it.")
