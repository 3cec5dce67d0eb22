"""A process of a Spark cluster on one machine: `python -m spark_streaming.standalone CLASS ARGUMENT…`.

CLASS is `master.Master` or `worker.Worker` of `org.apache.spark.deploy`; the arguments are its own. It
becomes Spark's process, on the jars and the JRE that silver's driver has.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from spark_streaming.spark_home import HERE, LAUNCHER, extra_classpath, make_spark_home

HEAP_MB = 192
SCALA = "2.13"


def main(name: str, *arguments: str) -> None:
    """Become the process. Raises: SettingsError if a jar is missing."""
    data = Path(os.environ["HEADWATER_SPARK_DATA"])
    home = make_spark_home(
        data, heap_mb=HEAP_MB, bind=os.environ.get("HEADWATER_BIND", "127.0.0.1")
    )
    # What a worker starts its executors with: a `java` of ours, and the jars beside pyspark's own.
    java = home / "java" / "bin" / "java"
    java.parent.mkdir(parents=True, exist_ok=True)
    java.unlink(missing_ok=True)
    java.symlink_to(HERE / "bin" / "java")
    os.environ["HEADWATER_SPARK_JAVA"] = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java")
    os.environ["JAVA_HOME"] = str(home / "java")
    os.environ["SPARK_DIST_CLASSPATH"] = extra_classpath()
    os.environ["SPARK_SCALA_VERSION"] = SCALA  # otherwise a worker looks for a build of Spark
    os.environ["HEADWATER_SPARK_MAIN"] = f"org.apache.spark.deploy.{name}"
    os.execv(LAUNCHER, [str(LAUNCHER), *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
