"""Which edges of the table of a job's states this run took, of all that there are. The last of the folder's tests."""

from __future__ import annotations

from collections import Counter

import pytest
from faults.ledger import Ledger
from faults.life import Edge

from ffrtmp.farm.job import TRANSITIONS


def test_p10_every_edge_of_the_table_was_taken(ledger: Ledger, capsys: pytest.CaptureFixture[str]):
    every: set[Edge] = {(old and old.value, new.value) for old, ways in TRANSITIONS.items() for new in ways}
    entries = [entry for entry in ledger.entries() if entry.ok]
    hit = {edge for entry in entries for edge in entry.edges}
    by_kills = {edge for entry in entries if entry.hit for edge in entry.edges}
    missing = sorted((f"{old or 'nothing'} -> {new}" for old, new in every - hit), key=str)
    kills = Counter(entry.name.rpartition(" ")[0] for entry in entries if entry.hit)
    with capsys.disabled():
        told = ", ".join(f"{step} {count}" for step, count in kills.items())
        print(f"\n{kills.total()} kills: {told or 'none'}", end="")
        print(f"; {len(every & hit)} of {len(every)} edges, {len(every & by_kills)} of them by kills", end="")
        print(f"; missing: {', '.join(missing) or 'none'}", end="", flush=True)
        for old, new in sorted(every & hit, key=str):
            print(f"\n  {old or 'nothing'} -> {new}{' (by kills)' if (old, new) in by_kills else ''}", end="")
    assert hit <= every, f"edges that are not in the table: {hit - every}"
    assert not missing
