"""P12: what a master holds out of sight of the search for garbage has a bound."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

BEGUN = """
    import gc
    from ffrtmp_master.garbage import GROWTH_BYTES, Garbage

    class Knot:
        def __init__(self, size_bytes):
            self.me, self.weight = self, bytearray(size_bytes)

        def __del__(self):
            print("freed")

    garbage = Garbage()
"""


def told(script: str) -> list[str]:
    """What a process says that takes the search over from Python and then does this; the search is the process's own."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(BEGUN) + dedent(script)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_p12_what_holds_itself_is_freed_at_the_next_look() -> None:
    script = """
        Knot(10)
        print(garbage.look())
    """
    assert told(script) == ["freed", "False"]


def test_p12_what_was_put_away_and_holds_itself_later_is_freed_when_the_process_has_grown() -> None:
    script = """
        knot = Knot(GROWTH_BYTES // 2)
        print(garbage.look())
        del knot
        print(garbage.look())
        kept = [bytes([1]) * GROWTH_BYTES]
        print(garbage.look())
        print(garbage.look())
    """
    assert told(script) == ["False", "False", "freed", "True", "False"]


def test_what_is_put_away_is_freed_at_once_when_nothing_holds_it() -> None:
    script = """
        knot = Knot(10)
        knot.me = None
        garbage.look()
        del knot
        print("then")
        print(gc.get_threshold()[2] > 1_000_000)
    """
    assert told(script) == ["freed", "then", "True"]
