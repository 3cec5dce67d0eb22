"""The folders of job files: the demo store's, and the home's `jobs/`, where users add and remove their own."""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.jobs.job_file import JobFile, find_jobs, read_job
from app.jobs.task_model import NotebookTask
from app.notebooks.notebook_file import convert_notebook

SHIPPED = Path(__file__).with_name("shipped")


def job_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders of a stack's jobs: the home's, then the demo store's if the stack has it."""
    own = settings.home / "jobs"
    return (own, SHIPPED) if settings.profile.embedded_source else (own,)


def named_files(file: JobFile) -> list[Path]:
    """Return the files that a job's tasks name, each once, as they are written."""
    given = (
        getattr(task, key, None) for task in file.job.tasks.values() for key in ("file", "contract")
    )
    return sorted({Path(name) for name in given if name is not None})


def jupyter_files(file: JobFile) -> dict[Path, Path]:
    """Return the Jupyter notebooks that tasks name, as written, and the file that each is converted to."""
    tasks = (task for task in file.job.tasks.values() if isinstance(task, NotebookTask))
    return {Path(one.file): Path(one.converted) for one in tasks if one.file != one.converted}


def add_job(
    source: Path,
    folder: Path,
    *,
    replace: bool = False,
    convert: Callable[[Path, Path], str] = convert_notebook,
    told: Callable[[str], None] = lambda _: None,
) -> JobFile:
    """Copy a job file and the files that it names into `folder`; Jupyter notebooks are converted there.

    An existing file that differs is replaced only with `replace`.
    Args:
        told: called with a line for each converted notebook.
    Raises: JobFileError with each mistake in it; HeadwaterError if a file is outside of its folder, would
        be replaced, or is a notebook that cannot be converted.
    """
    file = read_job(source)
    here = source.parent.resolve() == folder.resolve()
    copies = {} if here else {source: folder / source.name}
    for name in [] if here else named_files(file):
        if name.is_absolute() or ".." in name.parts:
            raise HeadwaterError(
                f"`{name}` is outside of the folder of {source}",
                hint="put a job's files beside the job file, or in folders below it",
            )
        copies[file.beside(str(name))] = folder / name
    with tempfile.TemporaryDirectory(prefix="headwater-notebook-") as scratch:
        for number, (name, made) in enumerate(jupyter_files(file).items()):
            if folder / made in copies.values():
                raise HeadwaterError(
                    f"`{name}` would be converted to `{made}`, which is also a file of the job",
                    hint="rename one of them",
                )
            converted = Path(scratch) / str(number) / made.name
            converted.parent.mkdir()
            said = convert(file.beside(str(name)), converted)
            told(f"{said}: {folder / made}")
            copies[converted] = folder / made
        if not replace:
            _refuse_other(copies)
        for path, target in reversed(copies.items()):  # the job file last: it names the others
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = target.with_name(f".{target.name}.new")
            shutil.copyfile(path, beside)
            beside.replace(target)
    return read_job(folder / source.name)


def _refuse_other(copies: dict[Path, Path]) -> None:
    for path, target in copies.items():
        if target.exists() and not filecmp.cmp(path, target, shallow=False):
            raise HeadwaterError(
                f"{target} exists and differs from {path}",
                hint="`--replace` overwrites it",
            )


def _own_files(file: JobFile) -> list[Path]:
    return [*named_files(file), *jupyter_files(file).values()]


def remove_job(folder: Path, job: str) -> list[Path]:
    """Remove a job file, and the files that only this job names.

    Returns: the removed files; [] if there is no such job.
    """
    path = folder / f"{job}.toml"
    if not path.exists():
        return []
    jobs, _ = find_jobs(folder)
    kept = {name for other, file in jobs.items() if other != job for name in _own_files(file)}
    mine = (
        [folder / name for name in _own_files(jobs[job]) if name not in kept] if job in jobs else []
    )
    there = [one for one in (path, *mine) if one.exists()]
    for one in there:
        one.unlink()
    return there
