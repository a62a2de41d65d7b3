"""Run worlds of the simulator until one fails. Run by plants.py, in the tree where something was planted."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))


def main() -> int:
    """The first world of FIRST COUNT that fails, as JSON: its seed and what was said; null where all hold."""
    from simulation import many  # type: ignore[import-not-found]

    first, count = map(int, sys.argv[1:])
    found = None
    with many.a_place() as (base, made):
        for seed in range(first, first + count):
            try:
                why = many.one(seed, base, made).broken
            except Exception:
                why = traceback.format_exc()
            if why:
                found = {"seed": seed, "told": why}
                break
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
