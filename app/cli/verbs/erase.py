"""`headwater erase`: remove one row's data from every store, with a receipt."""

from __future__ import annotations

import typer

from app.cli.completion import tables
from app.cli.needs import require
from app.cli.options import FORMAT_OPTION
from app.printing import Format


def erase(
    table: str = typer.Argument(
        help="A table, by silver's name or the source's.", autocompletion=tables
    ),
    key: str = typer.Argument(
        help="The row's key: 7, or a=1,b=2, or the values in the key's order, or JSON."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be removed."),
    keep_kafka: bool = typer.Option(
        False, "--keep-kafka", help="Leave Kafka's records until they expire by themselves."
    ),
    wait: float = typer.Option(
        60, "--wait", min=0, help="Seconds to wait for silver, and then for its answer."
    ),
    fmt: Format = FORMAT_OPTION,
) -> None:
    """Erase one row's data from bronze, silver's old files, history, quarantine and Kafka, for good.

    The source must have deleted the row before. Rows that had another key earlier are followed. In bronze each event keeps its
    place and loses its content, so counts, rebuild and verify stay right. Kafka can only drop the beginning of a partition: all
    records up to the row's last event go, also other rows', which bronze keeps. An interrupted erasure continues when
    the same command runs again. The receipt, without the key, is a row of ops.erasures.

    Examples:
      ./headwater erase customers 7 --dry-run
      ./headwater erase customers 7 --format json
      ./headwater erase order_lines order_id=12,line=3 --keep-kafka
    """
    require("postgres", "kafka", "s3", *([] if dry_run else ["silver"]))

    from app.cli.verb_audit import record_verb
    from app.environment.settings import load
    from app.erase.erase_command import run_erase

    # Without the key: the audit is kept, and everything of the row goes.
    record_verb(load(), "erase", [table], [table], kind="change")
    run_erase(table, key, fmt.value, dry_run=dry_run, keep_kafka=keep_kafka, wait_s=wait)
