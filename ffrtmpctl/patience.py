"""How long somebody who follows a job bears with a master that is away.

A master that restarts is away for seconds, and the job does not mind. So who follows one says that the master is away,
asks again, and says when it is back; only after `limit_s` does he give up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ffrtmp.errors import FarmError

from .client import NoMaster, Refusal

LIMIT_S = 60.0
LONGEST_PAUSE_S = 2.0
PASSING = frozenset({502, 503, 504})


class Patience:
    """Counts how long the master has been away. `notice` tells people, `sleep` passes time, `clock` is monotonic."""

    def __init__(
        self,
        notice: Callable[[str], None],
        *,
        limit_s: float = LIMIT_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sleep = sleep
        self._notice = notice
        self._limit_s = limit_s
        self._clock = clock
        self._since_s: float | None = None
        self._pause_s = 0.2
        self._met = False

    def answered(self) -> None:
        """The master answers."""
        if self._since_s is not None:
            self._notice("the master is back")
        self._since_s, self._pause_s, self._met = None, 0.2, True

    def failed(self, error: FarmError) -> None:
        """It did not: wait a little. Raises `error` when it will not pass, NoMaster when it has lasted too long."""
        if not (isinstance(error, NoMaster) or (isinstance(error, Refusal) and error.status in PASSING)):
            raise error
        now_s = self._clock()
        if self._since_s is None:
            self._since_s = now_s
            self._notice(f"the master is away, asking again for {self._limit_s:g} s ({error.what})")
        if now_s - self._since_s >= self._limit_s:
            hint = "running jobs go on without it; ask again when it is back"
            if error.hint and not self._met:  # it may never have been there
                hint = error.hint
            raise NoMaster(f"the master has been away for {self._limit_s:g} s", hint=hint) from error
        self.sleep(self._pause_s)
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 1.5)
