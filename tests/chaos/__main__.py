"""`python -m chaos`: a farm on a network that breaks, and what must be true of it afterwards.

CHAOS=short (about 4 minutes) or full (30 minutes); CHAOS_SEED=N repeats a run's choices; CHAOS_ONLY="link down,64 kbit/s"
takes these faults alone; CHAOS_KEEP=FOLDER keeps the logs there when something was wrong.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path

from chaos.enclosure import HOME, run_enclosed
from chaos.measures import measures
from chaos.storm import Storm


def main() -> int:
    """Run, tell what was seen, and give the exit status: 0 where all was right."""
    form = os.environ.get("CHAOS") or "short"
    if form not in ("short", "full"):
        print(f'CHAOS is "short" or "full", not "{form}"', file=sys.stderr)
        return 2
    seed = int(os.environ.setdefault("CHAOS_SEED", str(random.randrange(1_000_000))))
    return run_enclosed(lambda: _run(form, seed))


def _run(form: str, seed: int) -> int:
    began_s = time.monotonic()
    only = tuple(name.strip() for name in os.environ.get("CHAOS_ONLY", "").split(",") if name.strip())
    print(f"chaos: {form}, CHAOS_SEED={seed}", flush=True)
    storm = Storm(HOME, seed, float(os.environ.get("CHAOS_S") or {"short": 100.0, "full": 1650.0}[form]), only)
    try:
        wrong = storm.run()
    except AssertionError as error:
        wrong = [*storm.observer.notes.wrong, str(error)]
    for line in storm.told():
        print(line)
    if not only:
        for measure in measures(HOME.with_name("measured"), seed):
            print(f"measured: {measure.line()}", flush=True)
            wrong += [measure.line()] if measure.missed else []
    for line in wrong:
        print(f"WRONG: {line}")
    if wrong and (kept := os.environ.get("CHAOS_KEEP")):
        _keep(Path(kept))
    print(
        f"chaos: {'failed' if wrong else 'all was right'} after {time.monotonic() - began_s:.0f} s, CHAOS_SEED={seed}"
    )
    return 1 if wrong else 0


def _keep(folder: Path) -> None:
    """Copy logs and database out of the place that is cleared away."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*HOME.glob("*.log"), *(HOME / "master").glob("farm.db*")):
        shutil.copy(path, folder)
    print(f"chaos: logs and database are in {folder}")


if __name__ == "__main__":
    sys.exit(main())
