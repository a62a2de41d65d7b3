"""Errors that reach people: what went wrong, what to do, and the exit code that tells it."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of all programs of ffrtmp."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    NO_MASTER = 5
    CONFIG = 78  # sysexits' EX_CONFIG, which systemd does not restart


class FarmError(Exception):
    """Reaches the user as one line `what went wrong`, and a second with the hint. `--debug` shows the trace."""

    def __init__(self, what: str, *, hint: str = "", code: Exit = Exit.FAILED) -> None:
        """`what` starts in lower case and has no full stop; `hint` says what to do."""
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code
