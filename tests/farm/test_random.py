"""The promises under whatever may happen, in any order: P1, P2, P4 to P10, undo, and the table of transitions.

Each example is a story of deeds out of a few kinds (few kinds meet each other more often than many); chaos.py says what
they do, and invariants.py what is checked after each. FARM_EXAMPLES sets how many stories are played.
"""

from __future__ import annotations

import os

from farm.chaos import DEEDS, Chaos
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FARM_EXAMPLES", "200"))

ALWAYS = ("submit", "work", "lose", "return")
numbers = st.integers(0, 11)


@st.composite
def stories(draw):
    """10 to 60 deeds, of at most 16 kinds."""
    kinds = draw(st.lists(st.sampled_from(DEEDS), min_size=4, max_size=12, unique=True))
    deed = st.tuples(st.sampled_from((*kinds, *ALWAYS)), numbers, numbers, numbers)
    return draw(st.lists(deed, min_size=10, max_size=60))


@settings(max_examples=EXAMPLES, derandomize=True)
@given(stories(), st.sampled_from((0.0, 7.0)))
def test_p1_to_p10_hold_whatever_users_nodes_and_the_network_do(story, ageing_interval_s):
    stage = Chaos(ageing_interval_s=ageing_interval_s)
    for deed in story:
        stage.do(deed)
    stage.finale()
