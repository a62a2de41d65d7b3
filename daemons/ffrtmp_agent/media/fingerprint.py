"""What makes an output recognisable: its size and a digest of its contents (and names, for a folder).

Only plain files count. An output is the job's user's to write, and a link in it would show, once it is published,
something that the job itself may not have been allowed to read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ffrtmp.errors import FarmError
from ffrtmp.spec import Fingerprint

_BLOCK_BYTES = 1 << 20


def fingerprint(path: Path) -> Fingerprint:
    """Of a file: SHA-256 of its content. Of a folder: over each file's relative name, size and content, by name.

    Read in blocks. Raises FarmError where anything but files and folders is met, OSError where one cannot be read.
    """
    total = hashlib.sha256()
    if not stat.S_ISDIR(path.lstat().st_mode):
        return Fingerprint(_feed(total, path), total.hexdigest())
    size_bytes = 0
    for file in sorted(files_in(path), key=lambda file: os.fsencode(file.relative_to(path))):
        name = os.fsencode(file.relative_to(path))
        content = hashlib.sha256()
        length = _feed(content, file)
        # Lengths in front, so that no two folders give the same bytes.
        total.update(len(name).to_bytes(8, "big") + name + length.to_bytes(8, "big") + content.digest())
        size_bytes += length
    return Fingerprint(size_bytes, total.hexdigest())


def files_in(folder: Path) -> Iterator[Path]:
    """All files below a folder; raises FarmError at a link or anything else that is neither file nor folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files_in(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            else:
                raise _foreign(Path(entry.path))


def _feed(digest: hashlib._Hash, path: Path) -> int:
    """Update `digest` with a file's content; its size in bytes. Never follows a link, never waits at a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _foreign(path) if path.is_symlink() else error from None
    size_bytes = 0
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _foreign(path)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    return size_bytes


def _foreign(path: Path) -> FarmError:
    return FarmError(f"{path.name} in the output is neither a file nor a folder", hint="outputs are plain files")
