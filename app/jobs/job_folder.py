"""Where job files are: those of the demo store, and the home's folder `jobs/`, where users add and remove theirs."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from app.environment.settings import Settings
from app.errors import HeadwaterError
from app.jobs.job_file import JobFile, find_jobs, read_job

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


def add_job(source: Path, folder: Path, *, replace: bool = False) -> JobFile:
    """Copy a job file, and the files that it names, into `folder`.

    A file that is there already and differs is replaced with `replace` only.
    Raises: JobFileError for each mistake in it; HeadwaterError for a file outside its folder, or one
        that would be replaced.
    """
    file = read_job(source)
    if source.parent.resolve() == folder.resolve():
        return file
    copies = {source: folder / source.name}
    for name in named_files(file):
        if name.is_absolute() or ".." in name.parts:
            raise HeadwaterError(
                f"`{name}` lies outside the folder of {source}",
                hint="put what a job names beside its file, or below",
            )
        copies[file.beside(str(name))] = folder / name
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
                f"{target} is there already, and differs from {path}",
                hint="--replace writes over it",
            )


def remove_job(folder: Path, job: str) -> list[Path]:
    """Remove a job file, and the files that it names and no other job does.

    Returns: the removed files; [] where there is no such job.
    """
    path = folder / f"{job}.toml"
    if not path.exists():
        return []
    jobs, _ = find_jobs(folder)
    kept = {name for other, file in jobs.items() if other != job for name in named_files(file)}
    mine = (
        [folder / name for name in named_files(jobs[job]) if name not in kept]
        if job in jobs
        else []
    )
    for one in (path, *mine):
        one.unlink(missing_ok=True)
    return [path, *mine]
