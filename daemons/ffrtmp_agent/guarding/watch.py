"""Whether an engine gets on.

Progress is `out_time`, the place in the output that ffmpeg reports: only that it changes counts, not where to, since
a restarted engine begins again. As long as an engine has reported none (it is still opening its input, or is no ffmpeg)
it gets on when what it writes grows or when it uses CPU time.
"""

from __future__ import annotations

import os
import stat

PROGRESS_MAX_BYTES = 256 << 10
TAIL_BYTES = 8192
CPU_TICKS = 5  # 50 ms of CPU time since the last mark is getting on; a process that only waits uses less
TREE_MAX = 1000  # files that are looked at in a growing folder
MARK = b"\nout_time="


class Watch:
    """Watches one child."""

    def __init__(self, pid: int, progress: int, grow: list[str]) -> None:
        """`progress` is the descriptor of the progress file, -1 for a child that reports none."""
        self._pid = pid
        self._progress = progress
        self._grow = grow
        self._out_time = b""
        self._written = 0
        self._ticks = 0

    def moved(self) -> bool:
        """Whether the child has got on since the last call."""
        if self._progress >= 0:
            found = last_out_time(self._progress)
            if found and found != self._out_time:
                self._out_time = found
                return True
            if self._out_time:
                return False
        return self._grew() or self._used_cpu()

    def _grew(self) -> bool:
        written = sum(tree_bytes(path) for path in self._grow)
        grew, self._written = written != self._written, written
        return grew

    def _used_cpu(self) -> bool:
        ticks = cpu_ticks(self._pid)
        if 0 <= ticks - self._ticks < CPU_TICKS:
            return False
        self._ticks = ticks
        return True


def last_out_time(progress: int) -> bytes:
    """The last complete value of `out_time`, b"" when none is known. Keeps the file within its bound."""
    size = os.fstat(progress).st_size
    tail = b"\n" + os.pread(progress, TAIL_BYTES, max(size - TAIL_BYTES, 0))
    if size > PROGRESS_MAX_BYTES:
        os.ftruncate(progress, 0)  # in place: the engine appends, so it goes on at the new end
    found = tail.rfind(MARK, 0, tail.rfind(b"\n"))
    if found < 0:
        return b""
    value = tail[found + len(MARK) :].split(b"\n", 1)[0].strip()
    return b"" if value == b"N/A" else value


def tree_bytes(path: str) -> int:
    """The size of a file, or of the files in a folder; 0 for what is not there."""
    total, seen, folders = 0, 0, [path]
    while folders and seen < TREE_MAX:
        here = folders.pop()
        try:
            found = os.lstat(here)
            if stat.S_ISDIR(found.st_mode):
                folders += [os.path.join(here, name) for name in os.listdir(here)]  # noqa: PTH118, PTH208
            else:
                total += found.st_size
        except OSError:
            continue
        seen += 1
    return total


def cpu_ticks(pid: int) -> int:
    """Clock ticks of CPU time of a process, its children, and those that these have waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 (pathlib is not imported here)
            text = file.read()
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
            children = file.read().split()
    except OSError:
        return 0
    fields = text[text.rindex(b")") + 2 :].split()
    return sum(int(field) for field in fields[11:15]) + sum(cpu_ticks(int(child)) for child in children)
