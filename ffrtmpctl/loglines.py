"""Where the bytes of a log go: to people as they are, to programs as one JSON object a line.

A line of a log is `{"attempt": 1, "text": "..."}`; where the master has cut a log, `{"attempt": 1, "cut_bytes": 4096}` says
how much is missing.
"""

from __future__ import annotations

import re
from typing import Protocol

import msgspec

from ffrtmp.api import LOG_CUT

from .context import Context

# What would steer a terminal: all control characters but tab and newline. Files get every byte as it is.
_STEERING = bytes(code for code in (*range(32), 127) if code not in (9, 10))
_MARK = re.compile(re.escape(LOG_CUT.strip().encode()).replace(b"%d", rb"(\d+)"))


class LogOut(Protocol):
    """Takes a log, bit by bit."""

    def attempt(self, number: int) -> None:
        """What follows is of this attempt."""
        ...

    def write(self, data: bytes) -> None:
        """The next bytes."""
        ...

    def end(self) -> None:
        """Nothing more comes."""
        ...


class Plain:
    """The binary side of the output, at once, and made harmless for a terminal."""

    def __init__(self, context: Context) -> None:
        context.out.flush()
        self._raw = context.out.buffer
        self._terminal = context.out.isatty()

    def attempt(self, number: int) -> None:
        """Said by who follows, beside the log."""

    def write(self, data: bytes) -> None:
        """As it comes."""
        self._raw.write(data.translate(None, _STEERING) if self._terminal else data)
        self._raw.flush()

    def end(self) -> None:
        """All of it is written."""


class JsonLines:
    """Whole lines; the last one may have no end."""

    def __init__(self, context: Context) -> None:
        self._out = context.out
        self._attempt = 0
        self._rest = b""
        self._blank = False  # an empty line that may belong to the mark of a cut, which begins with one

    def attempt(self, number: int) -> None:
        """Lines of another attempt begin anew."""
        if number != self._attempt:
            self.end()
        self._attempt = number

    def write(self, data: bytes) -> None:
        """Tell the lines that are whole."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        self._out.flush()

    def end(self) -> None:
        """Tell what was held back."""
        if self._rest:
            self._line(self._rest)
        self._rest = b""
        self._settle()
        self._out.flush()

    def _line(self, line: bytes) -> None:
        mark = _MARK.fullmatch(line)
        if mark is not None:
            self._blank = False
            self._tell({"attempt": self._attempt, "cut_bytes": int(mark[1])})
            return
        self._settle()
        if line:
            self._tell({"attempt": self._attempt, "text": line.decode("utf-8", "replace")})
        else:
            self._blank = True

    def _settle(self) -> None:
        if self._blank:
            self._tell({"attempt": self._attempt, "text": ""})
        self._blank = False

    def _tell(self, record: dict[str, object]) -> None:
        self._out.write(msgspec.json.encode(record).decode() + "\n")


def log_out(context: Context) -> LogOut:
    """What fits the form that was asked for."""
    return JsonLines(context) if context.json else Plain(context)
