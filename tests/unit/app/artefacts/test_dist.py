"""Groups become folders: unpacked by their rules, linked, built once, never incomplete."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import tomli_w

from app.artefacts.archives import unpack
from app.artefacts.dist import Artefacts
from app.artefacts.locking.artefact_requirements import REQUIREMENTS_FILE, Requirements, Unpack
from app.artefacts.locking.cache import file_path
from app.artefacts.locking.lock import LOCK_FILE, Lock, LockedFile, LockedGroup
from app.errors import HeadwaterError
from tests.support.maven import Registry

Entry = tuple[str, bytes | tuple[Literal["link", "symlink"], str]]


def tar(kind: Literal["gz", "xz"], *entries: Entry) -> bytes:
    """An archive; names that end in `*` are executable."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "gz" else "w:xz") as archive:
        for name, what in entries:
            info = tarfile.TarInfo(name.rstrip("*"))
            info.mode = 0o700 if name.endswith("*") else 0o600
            if isinstance(what, bytes):
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
            else:
                info.type = tarfile.LNKTYPE if what[0] == "link" else tarfile.SYMTYPE
                info.linkname = what[1]
                archive.addfile(info)
    return buffer.getvalue()


def jar(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def unpacked(tmp_path: Path, content: bytes, **rule: Any) -> Path:
    (tmp_path / "archive").write_bytes(content)
    target = tmp_path / "target"
    target.mkdir()
    unpack(tmp_path / "archive", Unpack(**rule), target)
    return target


def test_a_tar_keeps_its_executable_bits_and_links_and_others_may_read(tmp_path: Path) -> None:
    content = tar(
        "gz",
        ("./top/bin/run*", b"run"),
        ("./top/lib/a.so.1", b"a"),
        ("./top/lib/a.so", ("symlink", "a.so.1")),
        ("./top/lib/b.so", ("link", "./top/lib/a.so.1")),
    )
    target = unpacked(tmp_path, content, format="tar.gz", strip=1)
    assert tree(target) == {
        "bin/run": b"run",
        "lib/a.so": b"a",
        "lib/a.so.1": b"a",
        "lib/b.so": b"a",
    }
    assert stat.S_IMODE((target / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "lib/a.so.1").stat().st_mode) == 0o644
    assert (target / "lib/a.so").readlink() == Path("a.so.1")


def test_only_chosen_members_are_unpacked_and_links_to_others_have_their_content(
    tmp_path: Path,
) -> None:
    content = tar(
        "gz",
        ("t/lib/core.jar", b"core"),
        ("t/plugin/big/shared.jar", b"shared"),
        ("t/plugin/big/big.jar", b"big"),
        ("t/plugin/kafka/core.jar", ("link", "t/lib/core.jar")),
        ("t/plugin/kafka/shared.jar", ("link", "t/plugin/big/shared.jar")),
        ("t/plugin/delta/shared.jar", ("link", "t/plugin/big/shared.jar")),
    )
    include = ("lib/*", "plugin/kafka/*", "plugin/delta/*")
    assert tree(unpacked(tmp_path, content, format="tar.gz", strip=1, include=include)) == {
        "lib/core.jar": b"core",
        "plugin/delta/shared.jar": b"shared",
        "plugin/kafka/core.jar": b"core",
        "plugin/kafka/shared.jar": b"shared",
    }


def test_an_archive_inside_a_jar_is_unpacked(tmp_path: Path) -> None:
    inner = tar("xz", ("bin/postgres*", b"binary"))
    content = jar(META__MANIFEST=b"m", linux_txz=inner)
    assert tree(unpacked(tmp_path, content, format="tar.xz", inner="*_txz")) == {
        "bin/postgres": b"binary"
    }


def test_a_jar_is_unpacked_by_pattern(tmp_path: Path) -> None:
    content = jar(a__one=b"1", a__two=b"2", b__three=b"3")
    assert tree(unpacked(tmp_path, content, format="zip", include=("a/*",))) == {
        "a/one": b"1",
        "a/two": b"2",
    }


@pytest.mark.parametrize(
    "content, rule",
    [
        (tar("gz", ("../out", b"x")), {"format": "tar.gz"}),
        (tar("gz", ("a/../../out", b"x")), {"format": "tar.gz"}),
        (tar("gz", ("/out", b"x")), {"format": "tar.gz"}),
        (tar("gz", ("out", ("symlink", "/etc/passwd"))), {"format": "tar.gz"}),
        (tar("gz", ("a/out", ("symlink", "../../etc"))), {"format": "tar.gz"}),
        (jar(**{"..__out": b"x"}), {"format": "zip"}),
    ],
    ids=["parent", "parent inside", "absolute", "absolute link", "link to parent", "zip"],
)
def test_an_archive_cannot_write_outside_its_folder(
    tmp_path: Path, content: bytes, rule: dict[str, str]
) -> None:
    with pytest.raises(HeadwaterError, match="wants to write outside its folder"):
        unpacked(tmp_path, content, **rule)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "target"]
    assert tree(tmp_path / "target") == {}


def test_a_rule_that_finds_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="nothing in archive fits its unpack rule"):
        unpacked(tmp_path, tar("gz", ("a", b"1")), format="tar.gz", include=("b/*",))


class Clone:
    """A clone's artefact files, a cache and a registry."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.root, self.cache, self.registry = folder / "clone", folder / "cache", registry
        self.root.mkdir(exist_ok=True)

    def write(self, files: dict[str, tuple[LockedFile, ...]], **groups: dict[str, Any]) -> None:
        described = {
            name: {"description": "", **group, "roots": [str(f.coordinate) for f in files[name]]}
            for name, group in groups.items()
        }
        requirements = Requirements.model_validate({"groups": described})
        lock = {n: LockedGroup(g.fingerprint(), files[n]) for n, g in requirements.groups.items()}
        (self.root / REQUIREMENTS_FILE).write_text(tomli_w.dumps({"groups": described}))
        (self.root / LOCK_FILE).write_text(Lock(lock).dump())

    def artefacts(self) -> Artefacts:
        return Artefacts(self.root, self.cache)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clone]:
    with Registry() as registry:
        monkeypatch.setenv("HEADWATER_MAVEN_MIRROR", registry.url)
        monkeypatch.setenv("M2_REPO", str(tmp_path / "none"))
        yield Clone(tmp_path, registry)


def test_a_group_of_jars_has_a_folder_and_a_class_path(clone: Clone) -> None:
    files = tuple(clone.registry.add(f"g:{name}:1", name.encode()) for name in ("b", "a"))
    clone.write({"jars": files}, jars={})
    artefacts = clone.artefacts()
    assert [str(file.coordinate) for file in artefacts.missing(["jars"])] == [
        "g:a:1:jar",
        "g:b:1:jar",
    ]
    artefacts.prepare(["jars"])
    assert tree(artefacts.directory("jars")) == {"a-1.jar": b"a", "b-1.jar": b"b"}
    assert [path.name for path in artefacts.classpath("jars")] == ["a-1.jar", "b-1.jar"]
    assert artefacts.missing(["jars"]) == []


def test_a_plugin_s_jars_stand_one_folder_down(clone: Clone) -> None:
    clone.write({"p": (clone.registry.add("g:a:1", b"a"),)}, p={"folder": "my-plugin"})
    clone.artefacts().prepare(["p"])
    assert tree(clone.artefacts().directory("p")) == {"my-plugin/a-1.jar": b"a"}
    assert [path.name for path in clone.artefacts().classpath("p")] == ["a-1.jar"]


def test_a_prepared_group_is_not_built_or_fetched_again(clone: Clone) -> None:
    clone.write({"a": (clone.registry.add("g:a:1", b"a"),)}, a={})
    clone.artefacts().prepare(["a"])
    before = clone.artefacts().directory("a").stat().st_ino
    clone.artefacts().prepare(["a", "a"])
    assert clone.artefacts().directory("a").stat().st_ino == before
    assert len(clone.registry.asked) == 1


def test_a_group_that_changes_gets_another_folder_and_the_old_one_stays(clone: Clone) -> None:
    clone.write({"a": (clone.registry.add("g:a:1", b"old"),)}, a={})
    clone.artefacts().prepare(["a"])
    old = clone.artefacts().directory("a")
    clone.write({"a": (clone.registry.add("g:a:2", b"new"),)}, a={})
    with pytest.raises(HeadwaterError, match="artefact group `a` is not there"):
        clone.artefacts().directory("a")
    clone.artefacts().prepare(["a"])
    assert tree(clone.artefacts().directory("a")) == {"a-2.jar": b"new"}
    assert tree(old) == {"a-1.jar": b"old"}


def test_a_file_damaged_in_the_cache_is_removed_and_fetched_again_at_the_next_start(
    clone: Clone,
) -> None:
    content = tar("gz", ("a", b"1" * 5000))
    file = clone.registry.add("g:a:1:tar.gz", content)
    clone.write({"a": (file,)}, a={"unpack": {"format": "tar.gz"}})
    path = file_path(clone.cache, file)
    path.parent.mkdir(parents=True)
    path.write_bytes(content[:20] + b"\0" * (len(content) - 20))
    with pytest.raises(HeadwaterError, match=r"g:a:1:tar.gz was damaged in the cache"):
        clone.artefacts().prepare(["a"])
    clone.artefacts().prepare(["a"])
    assert tree(clone.artefacts().directory("a")) == {"a": b"1" * 5000}


def test_a_jar_that_was_changed_in_the_cache_is_not_used(clone: Clone) -> None:
    file = clone.registry.add("g:a:1", b"right")
    clone.write({"a": (file,)}, a={})
    path = file_path(clone.cache, file)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"wrong")
    with pytest.raises(HeadwaterError, match=r"g:a:1:jar was damaged in the cache"):
        clone.artefacts().prepare(["a"])
    clone.artefacts().prepare(["a"])
    assert tree(clone.artefacts().directory("a")) == {"a-1.jar": b"right"}


def test_a_build_that_fails_leaves_nothing_behind(clone: Clone) -> None:
    file = clone.registry.add("g:a:1:tar.gz", tar("gz", ("a", b"1"), ("../b", b"2")))
    clone.write({"a": (file,)}, a={"unpack": {"format": "tar.gz"}})
    with pytest.raises(HeadwaterError):
        clone.artefacts().prepare(["a"])
    assert [path.name for path in (clone.cache / "dist").iterdir()] == [".a.guard"]
    assert list((clone.cache / "scratch").iterdir()) == []


def test_prepare_has_the_files_of_used_groups_without_building_those_twice(clone: Clone) -> None:
    files = {
        "both": (),
        "one": (clone.registry.add("g:a:1", b"a"),),
        "two": (clone.registry.add("g:b:1", b"b"),),
    }
    clone.write(files, both={"uses": ["one", "two"]}, one={}, two={})
    clone.artefacts().prepare(["both"])
    assert tree(clone.artefacts().directory("both")) == {"a-1.jar": b"a", "b-1.jar": b"b"}
    assert len(clone.registry.asked) == 2


def test_what_a_killed_build_left_is_removed_a_day_later(clone: Clone) -> None:
    clone.write({"a": (clone.registry.add("g:a:1", b"a"),)}, a={})
    old, young = clone.cache / "scratch" / "old", clone.cache / "scratch" / "young"
    for folder in (old, young):
        (folder / "part").mkdir(parents=True)
    os.utime(old, (0, 0))
    clone.artefacts().prepare(["a"])
    assert not old.exists()
    assert young.exists()


@pytest.mark.unhurried
def test_an_environment_is_made_once_in_its_place_and_a_changed_lock_gets_another(
    clone: Clone,
) -> None:
    lock = clone.root / "tool.lock"
    lock.write_text("# no packages\n")
    clone.write({"tool": ()}, tool={"venv": "tool.lock"})
    clone.artefacts().prepare(["tool"])
    made = clone.artefacts().directory("tool")
    said = subprocess.run(
        [made / "bin" / "python", "-c", "import sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.strip() == str(made)
    before = (made / "pyvenv.cfg").stat().st_mtime_ns
    clone.artefacts().prepare(["tool"])
    assert (made / "pyvenv.cfg").stat().st_mtime_ns == before
    lock.write_text("# still none\n")
    with pytest.raises(HeadwaterError, match="artefact group `tool` is not there"):
        clone.artefacts().directory("tool")
    assert made.is_dir()


@pytest.mark.unhurried
def test_an_environment_may_have_the_main_ones_packages_behind_its_own(clone: Clone) -> None:
    (clone.root / "tool.lock").write_text("# no packages\n")
    clone.write({"tool": ()}, tool={"venv": "tool.lock", "with_main": True})
    clone.artefacts().prepare(["tool"])
    python = clone.artefacts().directory("tool") / "bin" / "python"
    main = clone.root / "main"
    main.mkdir()
    (main / "probe.py").write_text("")
    (main / "pip.py").write_text("")  # the environment has its own, a package
    code = "import probe, pip; print(hasattr(pip, '__path__'))"

    def said(**more: str) -> tuple[int, str]:
        done = subprocess.run(
            [python, "-c", code], env={**os.environ, **more}, capture_output=True, text=True, timeout=60
        )  # fmt: skip
        return done.returncode, done.stdout.strip()

    assert said(HEADWATER_PACKAGES=str(main)) == (0, "True")
    assert said() == (1, "")


@pytest.mark.unhurried
def test_an_environment_whose_packages_cannot_be_installed_is_not_there(clone: Clone) -> None:
    (clone.root / "tool.lock").write_text(f"./none-1-py3-none-any.whl --hash=sha256:{'0' * 64}\n")
    clone.write({"tool": ()}, tool={"venv": "tool.lock"})
    with pytest.raises(HeadwaterError, match="pip could not install the locked packages"):
        clone.artefacts().prepare(["tool"])
    with pytest.raises(HeadwaterError, match="artefact group `tool` is not there"):
        clone.artefacts().directory("tool")


def test_an_environment_has_no_files_of_its_own(clone: Clone) -> None:
    (clone.root / REQUIREMENTS_FILE).write_text(
        '[groups.a]\ndescription = ""\nroots = ["g:a:1"]\nvenv = "tool.lock"\n'
    )
    with pytest.raises(HeadwaterError, match="leave the other keys out"):
        clone.artefacts()
