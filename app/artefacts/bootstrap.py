"""Makes a locked Python environment: `bootstrap.py VENV LOCK KIND`.

Runs on the system's Python with its standard library only, before anything is installed; `dist`
makes the environments of artefact groups with it. Two clones may start at once: the second waits
for the first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.artefacts.certificates import VARIABLES, certificates

FREE_BYTES_MIN = 2_500_000_000  # the packages unpack to 1.4 GB, and pip keeps copies meanwhile
INSTALL_TIMEOUT_S = 1_800
NOTE_EVERY_S = 5.0
# Read at each start of that environment's Python, which several clones with other main ones share.
MAIN_PACKAGES = "HEADWATER_PACKAGES"
_PTH = f"import os, site; os.environ.get({MAIN_PACKAGES!r}) and site.addsitedir(os.environ[{MAIN_PACKAGES!r}])"


class BootstrapError(Exception):
    """The environment cannot be made; the message says why, and what to do."""


def main(arguments: list[str]) -> int:
    try:
        make_environment(Path(arguments[0]), Path(arguments[1]), arguments[2])
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the next start goes on from here", file=sys.stderr)
        return 130
    return 0


def make_environment(venv: Path, lock: Path, kind: str, *, with_main: bool = False) -> None:
    """Install the packages of `lock` into `venv`, once; `complete_mark` is there afterwards.

    With `with_main` the environment also sees the packages in the folder HEADWATER_PACKAGES, after its own.

    In its own place from the first file on: an environment holds its path and cannot be moved.
    Raises: BootstrapError; downloaded files are kept for the next call.
    """
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(venv.parent / f".{venv.name}.lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not complete_mark(venv, kind).exists():
            _install(venv, lock, kind, with_main)


def complete_mark(venv: Path, kind: str) -> Path:
    """Return the file whose presence means that the environment is complete."""
    return venv / f".complete-{kind}"


def _install(venv: Path, lock: Path, kind: str, with_main: bool) -> None:
    free = shutil.disk_usage(venv.parent).free
    if free < FREE_BYTES_MIN:
        raise BootstrapError(
            f"too little disk for the Python packages: {free / 1e9:.1f} GB free, "
            f"{FREE_BYTES_MIN / 1e9:.1f} GB needed under {venv.parent}\n"
            "  hint: free some, or put the cache elsewhere with HEADWATER_CACHE=FOLDER"
        )
    if not (venv / "bin" / "python").exists():
        _make(venv)
    _pip(venv, lock, kind)
    if with_main:
        [packages] = venv.glob("lib/python3*/site-packages")
        (packages / "headwater.pth").write_text(_PTH + "\n")
    complete_mark(venv, kind).touch()
    if kind == "dev":  # its lock holds all that `runtime` has
        complete_mark(venv, "runtime").touch()


def _make(venv: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        raise BootstrapError(
            f"{sys.executable} cannot make a virtual environment\n  detail: "
            f"{made.stdout.strip().splitlines()[-1:] or made.returncode}\n"
            "  hint: on Debian and Ubuntu install the package python3-venv"
        )


def _pip(venv: Path, lock: Path, kind: str) -> None:
    log = venv / f"install-{kind}.log"
    count = sum("==" in line for line in lock.read_text().splitlines() if line[:1].isalpha())
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--require-hashes"]
    command += ["--no-input", "--disable-pip-version-check", "-r", str(lock)]
    print(f"installing {count} locked Python packages ({kind})", file=sys.stderr, flush=True)
    started = time.monotonic()
    with open(log, "w") as output:
        # A group of its own, so that Ctrl-C reaches us first and we end it in order.
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(),
        )
        try:
            _await(process, started, log)
        except BaseException:
            os.killpg(process.pid, 15)
            process.wait(timeout=10)
            raise
    if process.returncode != 0:
        tail = "\n    ".join(log.read_text().splitlines()[-6:])
        raise BootstrapError(
            f"pip could not install the locked packages\n  detail: {tail}\n  log: {log}\n"
            "  hint: is the package index reachable? pip's own settings and proxies are honoured"
        )
    print(f"installed in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _environment() -> dict[str, str]:
    """Return the user's environment, with the machine's certificates if it names none.

    A certificate in pip's own settings takes precedence.
    """
    found = certificates()
    return dict(os.environ) if found is True else {**os.environ, VARIABLES[0]: str(found)}


def _await(process: subprocess.Popen[bytes], started: float, log: Path) -> None:
    noted = started
    while process.poll() is None:
        now = time.monotonic()
        if now - started > INSTALL_TIMEOUT_S:
            raise BootstrapError(
                f"pip did not finish within {INSTALL_TIMEOUT_S} s\n  log: {log}\n"
                "  hint: start again; what was downloaded is kept"
            )
        if now - noted >= NOTE_EVERY_S:
            noted = now
            doing = [line for line in log.read_text().splitlines() if line.strip()][-1:]
            latest = doing[0].strip()[:70] if doing else ""
            print(f"  {now - started:.0f} s: {latest}", file=sys.stderr, flush=True)
        time.sleep(0.2)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
