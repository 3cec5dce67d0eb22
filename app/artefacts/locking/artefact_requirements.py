"""Reads `artefacts.toml`: the groups of files that the stack requires."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import tomli
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from app.artefacts.locking.coordinates import Coordinate
from app.errors import HeadwaterError

REQUIREMENTS_FILE = "artefacts.toml"


class Unpack(BaseModel):
    """How the one archive of a group becomes a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["zip", "tar.gz", "tar.xz"]
    inner: str = ""  # pattern of a member of a jar that is itself the archive
    strip: int = 0  # leading path components to leave out
    include: tuple[str, ...] = ()  # patterns of files to keep, after `strip`; empty: all


class Compile(BaseModel):
    """How Java sources in this repository become a jar."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jar: str
    sources: str  # folder of .java files, from the root of the clone
    resources: str = ""  # folder copied into the jar as it is
    against: tuple[str, ...] = ()  # groups on the class path of the compiler only
    # Jars that installed Python packages bring, on the class path of the compiler only: patterns below their folder.
    packages: tuple[str, ...] = ()
    release: int = 17  # Java language level and class file version
    compiler: str = "ecj"  # the group that holds the compiler


class Group(BaseModel):
    """A group of files that are fetched and made ready together.

    `roots` with `transitive` are resolved to a closure, without artifacts that match `exclude` (patterns of
    `group:artifact`) and their own dependencies. `uses` adds the files
    of other groups. `folder` puts the files one level down, as a plugin path wants them.
    `venv` names a lock of Python packages with hashes, from the root of the clone: the group
    is then a virtual environment of its own, and nothing else; `with_main` puts the packages of the
    main one behind its own, where HEADWATER_PACKAGES names their folder. With `machine` (the output of `uname -m`)
    the group replaces `in_place_of` for other groups and services on such machines.
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
    with_main: bool = False
    machine: str = ""
    in_place_of: str = ""

    @model_validator(mode="after")
    def _only_an_environment(self) -> Group:
        if self.venv and (self.roots or self.uses or self.folder or self.unpack or self.compile):
            raise ValueError("a group with `venv` has no files: leave the other keys out")
        return self

    @model_validator(mode="after")
    def _both_or_none(self) -> Group:
        if bool(self.machine) != bool(self.in_place_of):
            raise ValueError("`machine` and `in_place_of` go together")
        return self

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return tuple(Coordinate.parse(root) for root in self.roots)

    def fingerprint(self) -> str:
        """Hash of everything that decides which files the group has."""
        chosen = self.model_dump(mode="json", include={"roots", "transitive", "exclude"})
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


class Requirements(BaseModel):
    """All groups of `artefacts.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: dict[str, Group]

    def group(self, name: str) -> Group:
        """Return a group by its name; HeadwaterError if there is none."""
        if name not in self.groups:
            known = ", ".join(sorted(self.groups))
            raise HeadwaterError(
                f"there is no artefact group `{name}`", hint=f"{REQUIREMENTS_FILE} has: {known}"
            )
        return self.groups[name]

    def on_machine(self, name: str, machine: str) -> str:
        """Return the group that is used for `name` on a machine: itself, or its replacement there."""
        for other, group in self.groups.items():
            if group.in_place_of == name and group.machine == machine:
                return other
        return name

    def build_order(self, names: Iterable[str]) -> list[str]:
        """Return the named groups and the groups for their compilation, each after its dependencies.

        Raises HeadwaterError if a group is unknown or groups need each other in a circle.
        """
        ordered: list[str] = []

        def add(name: str, path: tuple[str, ...], built: bool) -> None:
            if name in path:
                raise HeadwaterError(
                    f"artefact groups depend on each other in a circle: {' -> '.join((*path, name))}"
                )
            group = self.group(name)
            for used in group.uses:  # used for their files, not built
                add(used, (*path, name), False)
            if group.compile:
                for need in (*group.compile.against, group.compile.compiler):
                    add(need, (*path, name), built)
            if built and name not in ordered:
                ordered.append(name)

        for name in names:
            add(name, (), True)
        return ordered


def read_requirements(root: Path) -> Requirements:
    """Read `artefacts.toml` of the clone; HeadwaterError names an unknown key or a wrong value."""
    path = root / REQUIREMENTS_FILE
    try:
        requirements = Requirements.model_validate(tomli.loads(path.read_text(encoding="utf-8")))
        requirements.build_order(requirements.groups)
        return requirements
    except (OSError, tomli.TOMLDecodeError) as error:
        raise HeadwaterError(f"cannot read {path}", detail=str(error)) from error
    except ValidationError as error:
        detail = "\n".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise HeadwaterError(f"{path} has unknown keys or values", detail=detail) from error
