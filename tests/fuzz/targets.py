"""All that is fuzzed."""

from __future__ import annotations

from fuzz import asked, told, wires
from fuzz.engine import Target

TARGETS: tuple[type[Target], ...] = (wires.ToMaster, wires.ToAgent, *asked.TARGETS, *told.TARGETS)
