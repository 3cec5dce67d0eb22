"""The keys of a job file's tasks: a closed model for each kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from spark_streaming.contract.contract_files import Seconds

OUTCOMES = ("all_succeeded", "any_failed", "always")
WRITTEN = ("ml", "files")
CONTRACT_SUFFIX = (
    ".contract.toml"  # of a `load` task's contract: such a file in the folder of jobs is not a job
)
_TABLE = re.compile(r"([a-z][a-z0-9_]*)\.([A-Za-z_][A-Za-z0-9_]*)")
_TEST = re.compile(r"(\w+)\.(\w+)\s*(==|!=|<=|>=|<|>)\s*(\S.*)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_TEXT = re.compile(r"'[^']*'")
Operator = Literal["==", "!=", "<", "<=", ">", ">="]


class Closed(BaseModel):
    """A part of a job file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ValueTest(Closed):
    """`when = "count.rows > 0"`: a test of a value that an earlier task reported."""

    task: str
    value: str
    operator: Operator
    against: bool | int | float | str


def parsed_test(text: str) -> ValueTest:
    """Return the test in `when`. Raises: ValueError if it is not a test."""
    found = _TEST.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f'{text!r} is not a test; write {", ".join(OUTCOMES)}, or a test such as "count.rows > 0"'
        )
    task, value, operator, literal = found.groups()
    against: bool | int | float | str
    if number := _NUMBER.fullmatch(literal):
        against = float(literal) if number.group(1) else int(literal)
    elif literal in ("true", "false"):
        against = literal == "true"
    elif _TEXT.fullmatch(literal):
        against = literal[1:-1]
    else:
        raise ValueError(f"`{literal}` is not a number, true, false or 'text'")
    if operator not in ("==", "!=") and isinstance(against, (bool, str)):
        raise ValueError(f"`{operator}` compares numbers, not {literal}")
    return ValueTest.model_validate(
        {"task": task, "value": value, "operator": operator, "against": against}
    )


class Task(Closed):
    """The keys of tasks of every kind.

    `when`: the required result of the tasks of `depends_on`, or a test of a value of one. `memory_mb`:
    the memory that the task may need; it does not start if less is free. `reads`, `writes`: tables of the
    lake as `schema.table`.
    """

    depends_on: list[str] = Field(default_factory=list, max_length=50)
    when: str = "all_succeeded"
    retries: int = Field(default=0, ge=0, le=10)
    retry_after: Annotated[Seconds, Field(ge=1, le=3_600)] = 30.0
    timeout: Annotated[Seconds, Field(ge=1, le=86_400)] = 3_600.0
    memory_mb: int | None = Field(default=None, ge=64, le=1 << 20)
    reads: list[str] = Field(default_factory=list)
    writes: list[str] = Field(default_factory=list)

    @property
    def test(self) -> ValueTest | None:
        """The test of a value in `when`, if there is one."""
        return None if self.when in OUTCOMES else parsed_test(self.when)

    @field_validator("when")
    @classmethod
    def _is_known(cls, when: str) -> str:
        if when not in OUTCOMES:
            parsed_test(when)
        return when

    @field_validator("reads", "writes")
    @classmethod
    def _are_tables(cls, tables: list[str]) -> list[str]:
        for table in tables:
            if not _TABLE.fullmatch(table):
                raise ValueError(f"`{table}` is not a table's name; write `schema.table`")
        return tables

    @field_validator("writes")
    @classmethod
    def _may_be_written(cls, tables: list[str]) -> list[str]:
        for table in tables:
            if table.partition(".")[0] not in WRITTEN:
                raise ValueError(f"a job cannot write `{table}`: only {' and '.join(WRITTEN)}")
        return tables

    @model_validator(mode="after")
    def _waits_for_what_it_tests(self) -> Task:
        if self.when == "any_failed" and not self.depends_on:
            raise ValueError('`when = "any_failed"` needs `depends_on`')
        return self


class _OneOf(Task):
    """A task with exactly one of two keys for its program."""

    _either: ClassVar[tuple[str, str]]

    @model_validator(mode="after")
    def _has_one(self) -> _OneOf:
        one, other = self._either
        if (getattr(self, one) is None) == (getattr(self, other) is None):
            raise ValueError(f"write either `{one}` or `{other}`: the task runs it")
        return self


class SqlTask(_OneOf):
    """Statements on Trino; the task reports the first row of the last one."""

    _either = ("statement", "file")
    kind: Literal["sql"]
    statement: str | None = Field(default=None, min_length=1)
    file: str | None = None


class PythonTask(_OneOf):
    """A Python module, or a file of the job's folder."""

    _either = ("module", "file")
    kind: Literal["python"]
    module: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
    file: str | None = None
    arguments: list[str] = Field(default_factory=list)


class SparkTask(_OneOf):
    """A program for Spark: a module, or a file of the job's folder."""

    _either = ("module", "file")
    kind: Literal["spark"]
    module: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
    file: str | None = None
    arguments: list[str] = Field(default_factory=list)


class NotebookTask(Task):
    """A marimo notebook, run without marimo's page; a Jupyter notebook is converted when its job is created."""

    kind: Literal["notebook"]
    file: str
    arguments: list[str] = Field(default_factory=list)

    @property
    def converted(self) -> str:
        """The file that runs: `file` itself, or the file that `job create` made from it beside it."""
        return str(Path(self.file).with_suffix(".py"))


class PublishTask(Task):
    """A table of the lake, copied into the serving database as `name`."""

    kind: Literal["publish"]
    table: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[A-Za-z_]\w*$")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    key: list[str] = Field(default_factory=list, max_length=32)

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == "publications":
            raise ValueError("`publications` is the list of published tables; choose another name")
        return name


class LoadTask(Task):
    """Loads files of a folder or bucket into a table of `lake.files`, each file once, by a contract."""

    kind: Literal["load"]
    source: str = Field(min_length=1)
    format: Literal["csv", "jsonl", "parquet"]
    table: str = Field(pattern=r"^files\.[a-z][a-z0-9_]{0,62}$")
    contract: str

    @field_validator("contract")
    @classmethod
    def _is_no_job(cls, contract: str) -> str:
        if not contract.endswith(CONTRACT_SUFFIX):
            raise ValueError(f"{contract!r} does not end with `{CONTRACT_SUFFIX}`")
        return contract

    @field_validator("source")
    @classmethod
    def _is_whole(cls, source: str) -> str:
        if not source.startswith(("/", "s3://", "${")):
            raise ValueError(f"{source!r} is neither an absolute folder nor `s3://BUCKET/FOLDER`")
        return source


class CommandTask(Task):
    """A verb of `./headwater`."""

    kind: Literal["command"]
    arguments: list[str] = Field(min_length=1)


AnyTask = Annotated[
    SqlTask | SparkTask | PythonTask | NotebookTask | PublishTask | LoadTask | CommandTask,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[Task]] = {
    "sql": SqlTask,
    "spark": SparkTask,
    "python": PythonTask,
    "notebook": NotebookTask,
    "publish": PublishTask,
    "load": LoadTask,
    "command": CommandTask,
}
