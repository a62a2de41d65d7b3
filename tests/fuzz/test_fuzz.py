"""P12: no message, submission, file or answer makes a daemon break, whatever is wrong with it. `make fuzz` goes on for longer."""

from __future__ import annotations

import pytest
from fuzz.engine import DEEP_LEAST, run
from fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_p12_whatever_comes_is_refused_or_taken_and_nothing_breaks(target):
    tally = run(target(), 1, examples=60)
    for seed, error in tally.broke:
        raise AssertionError(f"seed {seed}") from error
    assert tally.deep >= DEEP_LEAST, f"too little gets past the decoder: {tally}"
