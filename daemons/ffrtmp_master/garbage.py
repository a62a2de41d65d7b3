"""Python's search for garbage, in slices that nobody waits for.

What goes out of use is freed at once; only objects that hold each other need to be searched for. By itself Python now
and then searches *all* objects, and stops everything meanwhile: for 100,000 waiting jobs a fifth of a second. But the
records of jobs hold nothing that holds them, and nearly all that has been kept for some seconds is kept for long.

So Python searches young objects only, and `Garbage` looks every few seconds at what has been kept since its last look, and
puts what is in use out of the search's sight (`gc.freeze`). Freed at once it is all the same when its time comes. What was
put away and holds itself later, a connection that was open for a minute for instance, is found by the thorough search,
which comes only when the process has grown since the last one: by a quarter, and no less than `GROWTH_BYTES`. So what is
not found yet has a bound, and a farm of which no more is asked is never searched as a whole.
"""

from __future__ import annotations

import gc
import sys

from .census import resident_bytes

YOUNG = 5000  # new objects between two searches of the young ones
MIDDLE = 10  # such searches, between two of those that were left by them
NEVER = 1 << 30
GROWTH_BYTES = 64 << 20
SWITCH_S = 0.0005


def share_fairly() -> None:
    """Let the loop's thread have the interpreter soon, while another one computes.

    It gives the interpreter away at each send and each look into the store, and gets it back from the store's thread
    after Python's switch interval: 5 ms a message, where 20 µs are enough for it.
    """
    sys.setswitchinterval(SWITCH_S)


class Garbage:
    """Takes the search over from Python in this process. What has been made so far is put away."""

    def __init__(self) -> None:
        gc.set_threshold(YOUNG, MIDDLE, NEVER)
        gc.collect()
        gc.freeze()
        self._searched_bytes = resident_bytes()

    def look(self) -> bool:
        """Search what has been kept since the last look; says whether it was time to search everything."""
        resident = resident_bytes()
        grown = resident - self._searched_bytes > max(GROWTH_BYTES, self._searched_bytes // 4)
        if grown:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        if grown:
            self._searched_bytes = resident_bytes()
        else:
            self._searched_bytes = min(self._searched_bytes, resident)
        return grown
