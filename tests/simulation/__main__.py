"""python -m tests.simulation: see `--help`, and docs/simulation.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":
    from simulation.covered import watching

    with watching(asked="--coverage" in sys.argv) as watch:
        from simulation.command import main

        status = main()
    if "--bound" in sys.argv and not watch.enough:
        print("less was reached than must be")
        status = 1
    sys.exit(status)
