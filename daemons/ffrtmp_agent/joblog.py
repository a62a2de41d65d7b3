"""The log of an attempt as its guard left it on disk, read by byte offsets.

The form is told in ffrtmp_agent/guarding/tee.py: `log` holds the head, `log.OFFSET` a part of the tail. All of it can
be written by the job's user, so nothing here is believed: names are matched, links not followed, numbers bounded.
"""

from __future__ import annotations

import os
import re
import stat
from itertools import islice
from pathlib import Path

NAME = re.compile(r"log(?:\.([1-9][0-9]{0,15}))?")
FILES_MAX = 64
NAMES_MAX = 4096


def chunks(directory: Path, offset: int, limit: int) -> list[tuple[int, bytes]]:
    """Up to `limit` bytes of the log from `offset` on, as (place of the first byte, bytes), in order.

    Bytes that follow each other are one chunk; what lies between two chunks, or before the first, was cut.
    An attempt without a log has none.
    """
    found: list[tuple[int, bytes]] = []
    for start, name in _parts(directory):
        skip = max(offset - start, 0)
        data = _read(directory / name, skip, limit)
        if not data:
            continue
        limit -= len(data)
        offset = start + skip + len(data)
        if found and found[-1][0] + len(found[-1][1]) == start + skip:
            found[-1] = (found[-1][0], found[-1][1] + data)
        else:
            found.append((start + skip, data))
        if limit <= 0:
            break
    return found


def size(directory: Path) -> int:
    """How many bytes the log has had so far, the cut ones included."""
    ends = [start + _size(directory / name) for start, name in _parts(directory)]
    return max(ends, default=0)


def kept_bytes(directory: Path) -> int:
    """How much of the log is on disk."""
    return sum(_size(directory / name) for _, name in _parts(directory))


def _parts(directory: Path) -> list[tuple[int, str]]:
    """The files of the log, in order of their place."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in islice(entries, NAMES_MAX) if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []
    matches = [match for name in names if (match := NAME.fullmatch(name))]
    return sorted((int(match[1] or 0), match[0]) for match in matches)[:FILES_MAX]


def _read(path: Path, skip: int, limit: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, limit, skip) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
