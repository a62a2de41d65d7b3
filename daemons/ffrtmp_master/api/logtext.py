"""An attempt's log as text to be sent: cuts marked, secrets starred, given out in whole lines.

Whole lines, because a URL that is cut in two is not recognised and its password would be shown. For the same reason a
reader that begins in the middle of a line gets the line looked at from its start, and then its own part of it.
"""

from __future__ import annotations

from ffrtmp.api import log_cut
from ffrtmp.masking import mask_log

from ..store.reader import Reader

READ_BYTES = 256 << 10
LINE_MAX_BYTES = 64 << 10  # a longer line is given out in parts


class LogText:
    """Reads on from `start`, in bytes since the attempt's start."""

    def __init__(self, reader: Reader, job: int, attempt: int, start: int) -> None:
        self._reader = reader
        self._job = job
        self._attempt = attempt
        self._position = start
        self._held = self._line_before(start)  # read and not given out: the beginning of a line
        self._unasked = len(self._held)  # bytes at the front of it that lie before `start`

    def more(self) -> bytes | None:
        """What is new since the last call; empty when that is only a part of a line, None when it is nothing."""
        pieces = self._reader.read_log(self._job, self._attempt, self._position, READ_BYTES)
        if not pieces:
            return None
        out = b""
        for piece in pieces:
            if piece.cut:
                out += self.rest() + log_cut(piece.cut)
            self._held += piece.data
            self._position = piece.end
        whole = self._held.rfind(b"\n") + 1
        if not whole and len(self._held) >= LINE_MAX_BYTES:
            whole = len(self._held)
        return out + self._give(whole)

    def rest(self) -> bytes:
        """What was held back for the sake of a whole line: for the end, and when nothing follows for a while."""
        return self._give(len(self._held))

    def _give(self, count: int) -> bytes:
        text, self._held = mask_log(self._held[:count])[self._unasked :], self._held[count:]
        self._unasked = max(0, self._unasked - count)
        return text

    def _line_before(self, start: int) -> bytes:
        """The part of the line at `start` that lies before it."""
        back = max(0, start - LINE_MAX_BYTES)
        before = b""
        while back < start:
            pieces = self._reader.read_log(self._job, self._attempt, back, start - back)
            for piece in pieces:
                if piece.offset >= start:
                    return b""
                before = piece.data if piece.cut else before + piece.data
                back = piece.end
            if not pieces:
                return b""
        return before[before.rfind(b"\n") + 1 :]
