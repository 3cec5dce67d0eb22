"""Reads `artefacts.toml`: the groups of files that the stack is made of, as a person wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import tomli
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from app.launcher.coordinates import Coordinate
from app.launcher.errors import HeadwaterError

WISHES_FILE = "artefacts.toml"


class Unpack(BaseModel):
    """How the one archive of a group becomes a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["zip", "tar.gz", "tar.xz"]
    inner: str = ""  # pattern of a member of a jar that is itself the archive
    strip: int = 0  # leading path components to leave out
    include: tuple[str, ...] = ()  # patterns of what to keep, after `strip`; empty: all


class Compile(BaseModel):
    """How Java sources in this repository become a jar."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jar: str
    sources: str  # folder of .java files, from the root of the clone
    resources: str = ""  # folder copied into the jar as it is
    against: tuple[str, ...] = ()  # groups on the class path of the compiler only
    release: int = 17  # Java language level and class file version
    compiler: str = "ecj"  # the group that holds the compiler


class Group(BaseModel):
    """Files that are fetched, and made ready for use, together.

    `roots` with `transitive` are resolved to a closure, without what `exclude` names
    (patterns of `group:artifact`) and what only that would bring. `uses` adds the files
    of other groups. `folder` puts the files one level down, as a plugin path wants them.
    `venv` names a lock of Python packages with hashes, from the root of the clone: the group
    is then a virtual environment of its own, and nothing else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    roots: tuple[str, ...] = ()
    transitive: bool = False
    exclude: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    folder: str = ""
    unpack: Unpack | None = None
    compile: Compile | None = None
    venv: str = ""

    @model_validator(mode="after")
    def _only_an_environment(self) -> Group:
        if self.venv and (self.roots or self.uses or self.folder or self.unpack or self.compile):
            raise ValueError("a group with `venv` has no files: leave the other keys out")
        return self

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return tuple(Coordinate.parse(root) for root in self.roots)

    def fingerprint(self) -> str:
        """Hash of everything that decides which files the group has."""
        chosen = self.model_dump(mode="json", include={"roots", "transitive", "exclude"})
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


class Wishes(BaseModel):
    """All of `artefacts.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: dict[str, Group]

    def group(self, name: str) -> Group:
        """Raises HeadwaterError where there is no such group."""
        if name not in self.groups:
            known = ", ".join(sorted(self.groups))
            raise HeadwaterError(
                f"there is no artefact group `{name}`", hint=f"{WISHES_FILE} has: {known}"
            )
        return self.groups[name]

    def build_order(self, names: Iterable[str]) -> list[str]:
        """The named groups and those that they are compiled with, each once, needs first.

        Raises HeadwaterError where a group is unknown or groups need each other in a circle.
        """
        ordered: list[str] = []

        def add(name: str, path: tuple[str, ...], built: bool) -> None:
            if name in path:
                raise HeadwaterError(
                    f"artefact groups need each other in a circle: {' -> '.join((*path, name))}"
                )
            group = self.group(name)
            for used in group.uses:  # only their files are
                add(used, (*path, name), False)
            if group.compile:
                for need in (*group.compile.against, group.compile.compiler):
                    add(need, (*path, name), built)
            if built and name not in ordered:
                ordered.append(name)

        for name in names:
            add(name, (), True)
        return ordered


def read_wishes(root: Path) -> Wishes:
    """Read `artefacts.toml` in the root of the clone; HeadwaterError names a key it cannot take."""
    path = root / WISHES_FILE
    try:
        wishes = Wishes.model_validate(tomli.loads(path.read_text(encoding="utf-8")))
        wishes.build_order(wishes.groups)
        return wishes
    except (OSError, tomli.TOMLDecodeError) as error:
        raise HeadwaterError(f"cannot read {path}", detail=str(error)) from error
    except ValidationError as error:
        detail = "\n".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise HeadwaterError(
            f"{path} has keys or values that mean nothing", detail=detail
        ) from error
