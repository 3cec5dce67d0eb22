"""`python -m app.deploy …`: what a deployment past one machine is made from.

scales            the table of docs/scale.md
"""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.deploy")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("scales", help="print the table of docs/scale.md")
    given = parser.parse_args(arguments)
    if given.command == "scales":
        from app.deploy.sizing.coefficients import read_coefficients
        from app.deploy.sizing.prices import read_prices
        from app.deploy.sizing.scales import table

        sys.stdout.write(table(read_coefficients(), read_prices()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
