"""`python -m chaos`: a farm on a network that breaks, and what must be true of it afterwards.

CHAOS=short (every fault once) or full (30 minutes); CHAOS_SEED=N repeats a run's choices; CHAOS_ONLY="link down,64 kbit/s"
takes these faults alone. Where something was wrong, logs and database are kept in build/chaos.
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
from chaos.nemesis import FAULTS
from chaos.storm import Storm

FORMS_S = {"short": 0.0, "full": 1650.0}
KEPT = Path("build/chaos")


def main() -> int:
    """Run, tell what was seen, and give the exit status: 0 where all was right."""
    form = os.environ.get("CHAOS") or "short"
    only = tuple(name.strip() for name in os.environ.get("CHAOS_ONLY", "").split(",") if name.strip())
    if form not in FORMS_S:
        print(f'CHAOS is "short" or "full", not "{form}"', file=sys.stderr)
        return 2
    if unknown := set(only) - set(FAULTS):
        print(f"CHAOS_ONLY names {', '.join(unknown)}; there are: {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    seed = int(os.environ.setdefault("CHAOS_SEED", str(random.randrange(1_000_000))))
    return run_enclosed(lambda: _run(form, seed, only))


def _run(form: str, seed: int, only: tuple[str, ...]) -> int:
    began_s = time.monotonic()
    print(f"chaos: {form}, CHAOS_SEED={seed}", flush=True)
    wrong = _stormed(Storm(HOME, seed, FORMS_S[form], only))
    if not only:
        wrong += _measured(seed)
    for line in wrong:
        print(f"WRONG: {line}")
    if wrong:
        _keep()
    verdict = "failed" if wrong else "all was right"
    print(f"chaos: {verdict} after {time.monotonic() - began_s:.0f} s, CHAOS_SEED={seed}")
    return 1 if wrong else 0


def _stormed(storm: Storm) -> list[str]:
    """Let it rage, and print its record; what was wrong."""
    wrong = storm.run()
    for line in storm.told():
        print(line, flush=True)
    return wrong


def _measured(seed: int) -> list[str]:
    """Print the figures; what was wrong."""
    try:
        for measure in measures(HOME.with_name("measured"), seed):
            print(f"measured: {measure.line()}", flush=True)
    except AssertionError as error:
        return [str(error)]
    return []


def _keep() -> None:
    """Copy logs and databases out of the place that is cleared away."""
    for farm in (HOME, HOME.with_name("measured")):
        folder = KEPT / farm.name
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*farm.glob("*.log"), *(farm / "master").glob("farm.db*")):
            shutil.copy(path, folder)
    print(f"chaos: logs and databases are in {KEPT}")


if __name__ == "__main__":
    sys.exit(main())
