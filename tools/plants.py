"""Plant a bug, run worlds of the simulator until one fails; plant the next.

Each plant (planted.py says which there are) is made in a copy of the tree, and the given worlds run there in chunks, until
one fails or `--worlds` have run. The world that failed must hold without the plant, or it says nothing of it.

All plants go on by a chunk each in turn, so that the quick ones are known soon. Results are kept one a line in
build/plants/results.jsonl under a digest of the programs, the simulator and the plant: a run can be stopped at any time, and
goes on where it was as long as these stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from planted import PLANTS, Plant

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "plants"
COUNTS = ("daemons/", "tests/simulation/", "tests/farm/", "tests/store/")  # what a result depends on
CHUNK = 50

Result = dict[str, Any]


class Copy:
    """The tree as it stands, in a folder of its own, where one thing after the other is planted."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.python = python
        shutil.rmtree(folder, ignore_errors=True)
        found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        self.names = sorted(name for name in found.decode().split("\0") if name and (ROOT / name).is_file())
        for name in self.names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)

    def digest(self) -> str:
        """Of all that decides what a world does."""
        total = hashlib.sha256()
        for name in self.names:
            if name.startswith(COUNTS) and name.endswith((".py", ".toml")):
                total.update(name.encode() + b"\0" + (self.folder / name).read_bytes())
        return total.hexdigest()[:16]

    def run(self, plant: Plant | None, first: int, count: int) -> Result | None:
        """Run worlds with the plant, or without any; the first that failed (`seed`, `told`), or None where all held."""
        kept = {edit.path: (self.folder / edit.path).read_text() for edit in plant.edits} if plant else {}
        try:
            if plant is not None:
                self._make(plant)
            done = subprocess.run(
                [self.python, "-B", "tools/plant_worlds.py", str(first), str(count)],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": "daemons:."},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            for path, text in kept.items():
                (self.folder / path).write_text(text)
        if done.returncode:
            raise SystemExit(f"worlds {first} to {first + count - 1} did not run:\n{done.stderr[-2000:]}")
        found: Result | None = json.loads(done.stdout.splitlines()[-1])
        return found

    def _make(self, plant: Plant) -> None:
        for edit in plant.edits:
            path = self.folder / edit.path
            text = path.read_text()
            if text.count(edit.there) != 1:
                raise SystemExit(
                    f"{plant.name}: in {edit.path} its text stands {text.count(edit.there)} times, not once"
                )
            path.write_text(text.replace(edit.there, edit.instead))


def checked(copy: Copy, plants: Sequence[Plant]) -> None:
    """See that each can be planted; raises SystemExit."""
    for plant in plants:
        for edit in plant.edits:
            if (copy.folder / edit.path).read_text().count(edit.there) != 1:
                raise SystemExit(f"{plant.name}: its text is not in {edit.path} exactly once")


def key(digest: str, plant: Plant, first: int) -> str:
    """What a result is kept under."""
    return hashlib.sha256(json.dumps([digest, first, asdict(plant)], sort_keys=True).encode()).hexdigest()[:16]


def known(results: Path) -> dict[str, Result]:
    """The newest word on each plant."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {one["key"]: one for one in map(json.loads, lines)}


def go_on(copy: Copy, plant: Plant, before: Result, count: int) -> Result:
    """Run `count` more worlds with a plant. `before` says how many have run."""
    first = before["first"] + before["worlds"]
    found = copy.run(plant, first, count)
    if found is None:
        return {**before, "worlds": before["worlds"] + count}
    before = {**before, "worlds": found["seed"] - before["first"] + 1}
    if copy.run(None, found["seed"], 1) is not None:
        print(f"world {found['seed']} fails without any plant, and says nothing", flush=True)
        return before
    return {**before, **found}


def line(plant: Plant, result: Result) -> str:
    """One plant's result, in words."""
    if "seed" not in result:
        return f"{plant.promise:4} {plant.name}: not found in {result['worlds']}"
    told = result["told"].strip().splitlines()
    why = told[-1] if told[0].startswith("Traceback") else told[0]
    return f"{plant.promise:4} {plant.name}: found after {result['worlds']} worlds (seed {result['seed']}, {why[:200]})"


def run(copy: Copy, plants: Sequence[Plant], results: Path, first: int, most: int) -> dict[Plant, Result]:
    """Go on until each has been found or has had its worlds; each step is written as it is done."""
    digest = copy.digest()
    old = known(results)
    state = {}
    for plant in plants:
        name = key(digest, plant, first)
        state[plant] = old.get(name, {"key": name, "tree": digest, "name": plant.name, "first": first, "worlds": 0})
    chunk = CHUNK
    while waiting := [plant for plant in plants if "seed" not in state[plant] and state[plant]["worlds"] < most]:
        for plant in waiting:
            count = min(chunk, most - state[plant]["worlds"])
            state[plant] = go_on(copy, plant, state[plant], count)
            with results.open("a") as out:
                print(json.dumps(state[plant]), file=out)
            if "seed" in state[plant]:
                print(line(plant, state[plant]), flush=True)
        chunk = min(2 * chunk, 400)
    return state


def main() -> int:
    """Plant, run, report."""
    parser = argparse.ArgumentParser(description="plant known bugs and see that the simulator finds each")
    parser.add_argument("--first", type=int, default=0, help="the first world")
    parser.add_argument("--worlds", type=int, default=2000, help="the most worlds for each plant")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="only plants of this promise, or with this in their name"
    )
    parser.add_argument("--python", default=str(ROOT / ".venv" / "bin" / "python"), help="what runs the worlds")
    args = parser.parse_args()
    only = args.only or [""]
    plants = [plant for plant in PLANTS if any(text in plant.name or text == plant.promise for text in only)]
    WORK.mkdir(parents=True, exist_ok=True)
    copy = Copy(WORK / f"tree-{os.getpid()}", args.python)
    try:
        checked(copy, plants)
        state = run(copy, plants, WORK / "results.jsonl", args.first, args.worlds)
    finally:
        shutil.rmtree(copy.folder, ignore_errors=True)
    for plant in plants:
        print(line(plant, state[plant]))
    missed = [plant for plant in plants if "seed" not in state[plant]]
    print(f"{len(plants)} plants, {len(plants) - len(missed)} found, {len(missed)} not found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
