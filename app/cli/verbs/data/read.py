"""`headwater read`: a silver table's rows or changes, by one of the readers, without Trino."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.completion import tables
from app.cli.needs import require

if TYPE_CHECKING:
    from app.environment.settings import Settings

# The pyspark jars that the Java reader uses: the dependencies of Delta Kernel and S3A.
PYSPARK_JARS = (
    "commons-codec",
    "commons-lang3",
    "hadoop-client-api",
    "hadoop-client-runtime",
    "httpclient",
    "httpcore",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "jcl-over-slf4j",
    "jts-core",
    "log4j-api",
    "log4j-core",
    "log4j-slf4j2-impl",
    "parquet-column",
    "parquet-common",
    "parquet-encoding",
    "parquet-format-structures",
    "parquet-hadoop",
    "parquet-jackson",
    "slf4j-api",
    "snappy-java",
    "zstd-jni",
)
# Options of the JVM, and the class: the image has the same.
JAVA_ARGUMENTS = "app/readers/java/reader.args"
SPARK_HEAP_MB = 512


class Library(str, Enum):
    """What opens the table."""

    deltalake = "deltalake"
    spark = "spark"
    java = "java"


def read(
    table: str = typer.Argument(
        help="A silver table, as `orders`, or an address, s3://….", autocompletion=tables
    ),
    library: Library = typer.Option(Library.deltalake, "--with", help="What opens the table."),
    first: int = typer.Option(None, "--from", min=0, help="Changes from this version on."),
    state: Path = typer.Option(None, "--state", help="Continue where the previous run ended."),
    seconds: float = typer.Option(
        None, "--seconds", min=0, help="How long to wait for newer versions."
    ),
    rows_max: int = typer.Option(
        None, "--rows-max", min=0, help="End after about this many lines."
    ),
    send_runs: bool = typer.Option(
        False, "--send-runs", help="Send the run's own log and states to the intake."
    ),
) -> None:
    """Print a silver table's rows, or its changes by version, as lines of JSON, without Trino.

    Examples:
      ./headwater read orders
      ./headwater read orders --with java --from 12
    """
    from app.cli.verb_audit import record_verb
    from app.environment.settings import load

    require("s3", *(["intake"] if send_runs else []))
    settings = load()
    given = {"--from": first, "--state": state, "--seconds": seconds, "--rows-max": rows_max}
    words = [table]
    for option, value in given.items():
        words += [] if value is None else [option, str(value)]
    command, more = _command(library, settings)
    record_verb(settings, "read", words, [table if "://" in table else f"silver.{table}"])
    environment = {**os.environ, **settings.store.variables(), **more}
    if send_runs:
        environment["HEADWATER_INTAKE_URL"] = settings.intake_url
        environment["HEADWATER_INTAKE_TOKEN"] = settings.secret("intake_token")
    sys.stdout.flush()
    os.execve(command[0], [*command, *words], environment)


def _command(library: Library, settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Return a reader's program with its first arguments, and its environment variables."""
    from app.environment.settings import ROOT
    from app.errors import HeadwaterError

    python = {"PYTHONPATH": str(ROOT)}
    if library is Library.deltalake:
        return [sys.executable, "-m", "app.readers.deltalake_reader"], python
    if settings.profile.in_containers:
        raise HeadwaterError(
            f"the {library.value} reader is not in this image",
            hint="build its own: app/readers/Dockerfile",
        )
    import pyspark

    from app.artefacts.dist import Artefacts

    artefacts, jars = Artefacts(ROOT), Path(pyspark.__file__).parent / "jars"
    java = artefacts.java()
    if library is Library.java:
        artefacts.prepare(["java-reader"])
        path = [*artefacts.classpath("java-reader"), *pyspark_jars(jars)]
        return [str(java), "-cp", ":".join(map(str, path)), f"@{ROOT / JAVA_ARGUMENTS}"], {}
    artefacts.prepare(SPARK_GROUPS)
    own = [jar for group in SPARK_GROUPS for jar in artefacts.classpath(group)]
    folder, scratch = ROOT / "spark_streaming", settings.home / "run" / "spark-reader"
    scratch.mkdir(parents=True, exist_ok=True)
    for name, target in (("bin", folder / "bin"), ("jars", jars)):
        (scratch / name).unlink(missing_ok=True)
        (scratch / name).symlink_to(target)
    # Not by `spark-submit PROGRAM`, which joins the program's stderr with its stdout.
    return [sys.executable, "-m", "app.readers.spark_reader"], {
        **python,
        "SPARK_HOME": str(scratch),
        "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell",
        "JAVA_HOME": str(java.parent.parent),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(scratch),
        "HEADWATER_SPARK_LOG4J": (folder / "log4j2.properties").as_uri(),
        "HEADWATER_SPARK_HEAP_MB": str(SPARK_HEAP_MB),
        "HEADWATER_SPARK_LAUNCH_CLASSPATH": f"{':'.join(map(str, own))}:{jars}/*",
    }


SPARK_GROUPS = ("spark-delta", "spark-s3a")


def pyspark_jars(folder: Path) -> list[Path]:
    """List the jars of PYSPARK_JARS in pyspark's folder."""
    return [jar for name in PYSPARK_JARS for jar in sorted(folder.glob(f"{name}-[0-9]*.jar"))]
