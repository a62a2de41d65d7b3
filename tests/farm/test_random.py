"""The promises under whatever may happen, in any order: P1, P2, P4 to P10, undo, and the table of transitions.

Each example is a story of deeds out of a few kinds (few kinds meet each other more often than many); chaos.py says what
they do, and invariants.py what is checked after each. FARM_EXAMPLES sets how many stories are played. A story that breaks
a promise is told again without what is not needed for it: that is quicker than what hypothesis would do.
"""

from __future__ import annotations

import os

from farm.chaos import DEEDS, play, shortened
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FARM_EXAMPLES", "200"))

ALWAYS = ("submit", "submit", "work", "lose", "return", "return", "nonsense", "rogue", "verify")
numbers = st.integers(0, 11)


@st.composite
def stories(draw):
    """40 to 60 deeds, of at most 20 kinds."""
    kinds = draw(st.lists(st.sampled_from(DEEDS), min_size=4, max_size=12, unique=True))
    deed = st.tuples(st.sampled_from((*kinds, *ALWAYS)), numbers, numbers, numbers)
    return draw(st.lists(deed, min_size=40, max_size=60))


@settings(max_examples=EXAMPLES, derandomize=True, phases=(Phase.generate,))
@given(stories(), st.sampled_from((0.0, 7.0)))
def test_p1_to_p10_hold_whatever_users_nodes_and_the_network_do(story, ageing_interval_s):
    try:
        play(story, ageing_interval_s)
    except Exception as error:
        needed = shortened(story, ageing_interval_s)
        raise AssertionError(f"{error}\nplay({needed}, {ageing_interval_s}) breaks it") from error
