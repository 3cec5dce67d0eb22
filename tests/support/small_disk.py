"""Small real filesystems that a test fills and frees; only root can make them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import until

FILLER = "filler"
EXT4_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2  # ext4's ioctl and flag, from the kernel's fs/ext4/ext4.h
UNMOUNTED_S = 60.0
EXT4_OPTIONS = "loop,discard"


class SmallDisk:
    """A separate filesystem, mounted at `folder`."""

    def __init__(self, folder: Path, image: Path | None = None) -> None:
        self.folder = folder
        self._image = image

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Leave no more than `leave_bytes` free; fill again if space has been freed meanwhile."""
        path = self.folder / FILLER
        with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
            os.fchmod(file.fileno(), 0o600)
            # In ever smaller steps, because the filesystem's own tables take some of the free space.
            step = self.free_bytes - leave_bytes
            while step >= 4096 and self.free_bytes > leave_bytes:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                except OSError:
                    step //= 2

    def free(self) -> None:
        """Remove the files of `fill`."""
        (self.folder / FILLER).unlink(missing_ok=True)

    def lose_power(self) -> None:
        """Stop the filesystem (ext4) at once, as a power cut does: what was not yet written to disk is lost."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(folder)

    def mount_again(self) -> None:
        """Unmount, which fails while a process uses it, and mount; ext4 replays its journal."""
        until(
            lambda: subprocess.run(["umount", str(self.folder)], capture_output=True, text=True),
            lambda ended: ended.returncode == 0,
            within_s=UNMOUNTED_S,
            what=f"{self.folder} unmounted",
        )
        _mount("-o", EXT4_OPTIONS, str(self._image), str(self.folder))


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs at `folder`; at the end unmount it with its content.

    The test is skipped with a reason if this user may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder.stat()
    access = f"mode={owner.st_mode & 0o7777:o},uid={owner.st_uid},gid={owner.st_gid}"
    _mount("-t", "tmpfs", "-o", f"size={size_bytes},{access}", "headwater-test", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily, so that files left open by a failed test do not prevent it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def small_ext4(folder: Path, size_bytes: int, image: Path) -> Iterator[SmallDisk]:
    """Like `small_disk`, but ext4 in a sparse file `image`, which is closer to a real disk."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder.stat()
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    try:
        made = ["mkfs.ext4", "-q", "-m", "0", str(image)]
        if shutil.which(made[0]) is None:
            pytest.skip("a small disk needs the program `mkfs.ext4`")
        subprocess.run(made, check=True)
        _mount("-o", EXT4_OPTIONS, str(image), str(folder))
        try:
            (folder / "lost+found").rmdir()  # Postgres needs an empty folder
            os.chown(folder, owner.st_uid, owner.st_gid)
            folder.chmod(owner.st_mode & 0o7777)
            yield SmallDisk(folder, image)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        image.unlink()


def _mount(*arguments: str) -> None:
    try:
        ended = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small disk needs the program `mount`")
    if ended.returncode != 0:
        pytest.skip(f"a small disk needs a user who may mount: {ended.stderr.strip()}")
