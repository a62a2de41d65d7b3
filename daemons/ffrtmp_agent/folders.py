"""Folders inside a media root, walked so that nobody is led elsewhere.

Why every path is walked
------------------------
Jobs and submitters can write inside a media root, so anything below it may be, or become, a symbolic link to somewhere
else. A path that was checked and then used as text can be changed in between. Here the root is opened once, every
further component is opened from the one before with O_NOFOLLOW, and what is made, renamed or removed is named relative
to an open folder. The owner of a node may well use links *in the path of* a root; inside it they are refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ffrtmp.errors import FarmError

OURS = ".ffrtmp"
CLEAR_TRIES = 1000
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_ours(root: Path, *, make: bool = False) -> Iterator[int]:
    """ROOT/.ffrtmp, opened."""
    with open_folder(root, [OURS], make=make) as folder:
        yield folder


@contextmanager
def open_folder(root: Path, parts: list[str], *, make: bool = False) -> Iterator[int]:
    """A folder below `root`, opened without following a link below it; `make` makes what is missing, durably."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = _step(here, part, root, make=make)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _step(here: int, part: str, root: Path, *, make: bool) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(part, 0o775, dir_fd=here)
            os.fsync(here)
    try:
        return os.open(part, FOLDER, dir_fd=here)
    except FileNotFoundError:
        raise
    except OSError as error:
        what = f"{part!r} in media root {root} is a link or no folder"
        raise FarmError(what, hint="use a path without symbolic links inside the root") from error


def plain_tree(folder: int, name: str) -> bool:
    """Whether `name` is a plain file with one name, or a folder that holds nothing else, at any depth."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISREG(found.st_mode):
        return found.st_nlink == 1
    if not stat.S_ISDIR(found.st_mode):
        return False
    below = os.open(name, FOLDER, dir_fd=folder)
    try:
        return all(plain_tree(below, entry) for entry in os.listdir(below))  # noqa: PTH208 (by descriptor)
    finally:
        os.close(below)


def clear(folder: int | None, name: str) -> None:
    """Remove a tree without following a link in it; what is not there is no matter. Raises OSError.

    Somebody else may be at it as well: another agent that settles, a guard that puts a file in place. What has gone
    meanwhile must not keep the rest from going.
    """
    for _ in range(CLEAR_TRIES):
        try:
            return shutil.rmtree(name, dir_fd=folder)
        except FileNotFoundError:
            try:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
