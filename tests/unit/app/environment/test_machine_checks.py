"""Each machine, Python and folder works, or `./headwater` refuses it before any download, with one sentence
that says what to do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.environment import machine_checks
from app.environment.settings import ROOT

CONTAINERS = "docker compose up --wait"


class Pretender:
    """`./headwater` on a PATH whose only Python is this one, with forged facts about the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("sh", "dirname", "uname", "cat"):
            (self.bin / name).symlink_to(shutil.which(name) or name)

    def python(self, patch: str, name: str = "python3") -> None:
        site = self.folder / f"site-{name}"
        site.mkdir()
        (site / "sitecustomize.py").write_text(f"import os, platform, sys\n{patch}\n")
        script = self.bin / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
        script.chmod(0o755)

    def start(self, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": str(self.bin), "HEADWATER_CACHE": str(self.cache), **environment}
        return subprocess.run(
            [root / "headwater", "status"],
            env={name: value for name, value in given.items() if value},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def refusal(self, root: Path = ROOT, **environment: str) -> tuple[str, str]:
        """Check the refusal and its hint, and that nothing was downloaded or made."""
        ended = self.start(root, **environment)
        assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
        sentence, *hints = ended.stderr.splitlines()
        assert len(hints) == 1 and hints[0].startswith("  hint: "), ended.stderr
        assert not self.cache.exists()
        return sentence, hints[0]


@pytest.fixture
def pretender(tmp_path: Path) -> Pretender:
    return Pretender(tmp_path)


@pytest.mark.parametrize(
    ("patch", "observed"),
    [
        ("platform.machine = lambda: 'armv7l'", "this is armv7l"),
        ("platform.machine = lambda: 'riscv64'", "this is riscv64"),
        ("sys.maxsize = 2**31 - 1", "Python is a 32-bit one"),
        ("platform.libc_ver = lambda *_: ('', '')", "musl"),
        ("platform.libc_ver = lambda *_: ('musl', '1.2.5')", "this Python uses musl"),
        ("platform.libc_ver = lambda *_: ('glibc', '2.17')", "needs glibc 2.28 or newer; this is 2.17"),
    ],
)  # fmt: skip
def test_a_machine_that_cannot_run_the_stack_is_sent_to_containers(
    pretender: Pretender, patch: str, observed: str
) -> None:
    pretender.python(patch)
    sentence, hint = pretender.refusal()
    assert observed in sentence
    assert CONTAINERS in hint


def test_macos_is_sent_to_containers(pretender: Pretender) -> None:
    (pretender.bin / "uname").unlink()
    (pretender.bin / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (pretender.bin / "uname").chmod(0o755)
    pretender.python("")
    sentence, hint = pretender.refusal()
    assert sentence == "Headwater's native stack runs on Linux; this is Darwin"
    assert CONTAINERS in hint


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 9), (3, 15)])
def test_a_python_that_does_not_fit_is_named_with_those_that_do(
    pretender: Pretender, version: tuple[int, int]
) -> None:
    pretender.python(f"sys.version_info = ({version[0]}, {version[1]}, 0)")
    sentence, hint = pretender.refusal()
    shown = ".".join(map(str, version))
    assert sentence == f"no Python 3.10 to 3.14 was found on PATH; python3 is Python {shown}"
    assert CONTAINERS in hint


def test_a_python_that_fits_is_taken_before_the_default_one_that_does_not(
    pretender: Pretender,
) -> None:
    pretender.python("sys.version_info = (3, 9, 18)")
    pretender.python("platform.machine = lambda: 'sparc'", "python3.14")
    assert "this is sparc" in pretender.refusal()[0]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("minor", range(10, 15))
def test_each_machine_and_python_that_is_locked_gets_an_environment_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    machine: str,
    minor: int,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.28"))
    monkeypatch.setattr(sys, "version_info", (3, minor, 0))
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    assert machine_checks.main([str(ROOT), "runtime"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder.parent == tmp_path / "cache" / "venv"
    assert folder.name.startswith(f"py3.{minor}-{machine}-")


@pytest.mark.parametrize("variable", ["HEADWATER_CACHE", "HEADWATER_HOME"])
@pytest.mark.parametrize(
    "name", ["a:b", "a,b", "a=b", 'a"b', "a$b", "a\\b", "a\nb", "a#b", "a%20b"]
)
def test_a_folder_whose_name_java_cannot_take_is_refused(
    pretender: Pretender, variable: str, name: str
) -> None:
    pretender.python("")
    sentence, hint = pretender.refusal(ROOT, **{variable: str(pretender.folder / name)})
    assert "cannot hold" in sentence
    assert f"{variable}=FOLDER" in hint


def test_a_clone_in_a_folder_with_a_colon_is_told_to_move(pretender: Pretender) -> None:
    clone = pretender.folder / "12:30" / "clone"
    (clone / "app" / "environment").mkdir(parents=True)
    for name in ("headwater", "app/environment/machine_checks.py"):
        shutil.copy(ROOT / name, clone / name)
    pretender.python("")
    sentence, hint = pretender.refusal(clone)
    assert "the path of the clone has ':'" in sentence and str(clone) in sentence
    assert "move it to another folder" in hint


@pytest.mark.parametrize(
    "path", ["/a b", "/Ünï cödé", "/日本", "/O'Brien & Söhne (1)", "/u\u0308", "/a.b-c_d+e@f~g"]
)
def test_spaces_quotes_and_letters_of_any_script_are_taken(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.delenv("HEADWATER_HOME", raising=False)
    machine_checks.check_paths(Path(path), Path(path) / "cache")


def test_a_cache_that_cannot_be_made_is_named_with_the_way_on(pretender: Pretender) -> None:
    (pretender.folder / "file").write_text("")
    pretender.python("")
    sentence, hint = pretender.refusal(HEADWATER_CACHE=str(pretender.folder / "file" / "cache"))
    assert sentence.startswith(f"cannot write the cache folder {pretender.folder}/file/cache: ")
    assert "HEADWATER_CACHE=FOLDER" in hint


def test_a_cache_from_which_no_program_can_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Mounted:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda path: Mounted)
    with pytest.raises(machine_checks.UnsuitableMachine, match="noexec"):
        machine_checks.check_cache(tmp_path)


def test_without_home_the_cache_is_below_the_users_own_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HOME", "HEADWATER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    import pwd

    own = pwd.getpwuid(os.getuid()).pw_dir
    assert machine_checks.cache_folder() == Path(own) / ".cache" / "headwater"


def test_without_any_place_for_the_cache_one_is_asked_for(pretender: Pretender) -> None:
    pretender.python("import pwd; pwd.getpwuid = lambda uid: {}[uid]")  # a user without an entry
    sentence, hint = pretender.refusal(HEADWATER_CACHE="")
    assert "HOME is not set" in sentence
    assert "HEADWATER_CACHE=FOLDER" in hint


@pytest.mark.parametrize("locale", ["C", "POSIX", "tr_TR.ISO-8859-9", "de_DE@euro"])
def test_names_and_files_are_utf_8_in_any_locale(pretender: Pretender, locale: str) -> None:
    read_as = "sys.getfilesystemencoding() + ' ' + open(__file__).encoding.lower()"
    pretender.python(f"platform.machine = lambda: {read_as}")
    sentence, _ = pretender.refusal(LC_ALL=locale, LANG=locale)
    assert sentence.endswith("this is utf-8 utf-8")
