"""`python -m app.deploy …`: writes the files for a deployment on several machines.

scales                              the table of docs/scale.md
kubernetes [--values FILE] FOLDER   the manifests of a cluster
home [--values FILE] FOLDER         the content of that cluster's Secrets, from HEADWATER_*
bill                                the bill of materials, as CycloneDX in JSON
release FOLDER                      the files of a release, from a clean clone
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from app.errors import HeadwaterError


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.deploy")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("scales", help="print the table of docs/scale.md")
    commands.add_parser("bill", help="print the bill of materials")
    files = commands.add_parser("release", help="write the files of a release, from a clean clone")
    files.add_argument("folder", type=Path, help="where to write")
    for name, does in (
        ("kubernetes", "write the manifests of a cluster"),
        ("home", "write the content of a cluster's Secrets, from HEADWATER_*"),
    ):
        command = commands.add_parser(name, help=does)
        command.add_argument("--values", type=Path, help="a file like cluster.toml")
        command.add_argument("folder", type=Path, help="where to write")
    given = parser.parse_args(arguments)
    try:
        _run(given)
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(given: argparse.Namespace) -> None:
    if given.command == "scales":
        from app.deploy.sizing.coefficients import read_coefficients
        from app.deploy.sizing.prices import read_prices
        from app.deploy.sizing.scales import table

        sys.stdout.write(table(read_coefficients(), read_prices()))
        return
    if given.command in ("bill", "release"):
        from app.deploy.release.bill_of_materials import bill
        from app.deploy.release.release_files import release
        from app.environment.settings import ROOT

        if given.command == "bill":
            sys.stdout.write(bill(ROOT))
        else:
            print("\n".join(map(str, release(ROOT, given.folder))))
        return
    from app.deploy.kubernetes.cluster_settings import write_home
    from app.deploy.kubernetes.cluster_values import CLUSTER, SECRET_KEYS, read_cluster
    from app.deploy.kubernetes.manifests import write

    cluster = read_cluster(given.values or CLUSTER)
    if given.command == "kubernetes":
        paths = write(cluster, given.folder)
        print(f"{len(paths)} files are written", file=sys.stderr)
        print(f"kubectl apply --kustomize {given.folder}")
        return
    secrets = {key: os.environ.get(f"HEADWATER_{key.upper()}") for key in SECRET_KEYS}
    print("\n".join(write_home(cluster, given.folder.absolute(), secrets)))


if __name__ == "__main__":
    sys.exit(main())
