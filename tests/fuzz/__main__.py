"""`python -m fuzz --seconds 60`: fuzz every target for so long, print how far it got, what broke and what was covered."""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import coverage
from fuzz.engine import DEEP_LEAST, Tally, Target, run

ROOT = Path(__file__).parents[2]
WATCHED = 0.2  # of the time coverage is looked at, for that costs time
# Where each target's examples go: what is reported of the coverage.
BEHIND = {
    "wire to the master": (
        "ffrtmp/wire.py",
        "ffrtmp_master/manners.py",
        "ffrtmp_master/switchboard.py",
        "ffrtmp/farm/*",
    ),
    "wire to the agent": ("ffrtmp/wire.py", "ffrtmp_agent/session.py"),
    "submission": (
        "ffrtmp_master/submit.py",
        "ffrtmp_master/bounds.py",
        "ffrtmp_master/paths.py",
        "ffrtmp/arguments.py",
    ),
    "job specification": ("ffrtmp_agent/media/commands.py", "ffrtmp_agent/media/encoders.py"),
    "scenario file": ("ffrtmp/scenario.py", "ffrtmp/quantity.py"),
    "configuration": ("ffrtmp/config.py", "ffrtmp/setting.py", "ffrtmp/config_master.py", "ffrtmp/config_agent.py"),
    "progress": ("ffrtmp_agent/media/progress.py",),
    "ffprobe's output": ("ffrtmp_agent/media/probe.py", "ffrtmp_agent/media/checks.py"),
    "ticket": ("ffrtmp/keys.py", "ffrtmp_master/tickets.py"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: nothing broke, and of every target enough got past the decoder."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz the decoders and the rules behind them.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="the first one; by default any")
    parser.add_argument("--target", action="append", help="only this one (may be repeated)")
    asked = parser.parse_args(arguments)
    watched = coverage.Coverage(source=[str(ROOT / "daemons")], data_file=None)
    with watched.collect():  # what is run when modules are imported counts for every target
        from fuzz.targets import TARGETS
    bad = False
    for target in TARGETS:
        if asked.target and target.name not in asked.target:
            continue
        first = _watched_run(watched, target(), asked.seed, asked.seconds * WATCHED)
        tally = first
        if not first.broke:
            tally = first + run(target(), asked.seed + first.rounds, seconds=asked.seconds - first.seconds)
        print(tally, flush=True)
        for line in _covered(watched, target.name):
            print(line, flush=True)
        for seed, error in tally.broke:
            print(f"seed {seed}:")
            traceback.print_exception(error)
        bad |= bool(tally.broke) or tally.deep < DEEP_LEAST
    return int(bad)


def _watched_run(watched: coverage.Coverage, target: Target, seed: int, seconds: float) -> Tally:
    with watched.collect():
        watched.switch_context(target.name)
        return run(target, seed, seconds=seconds)


def _covered(watched: coverage.Coverage, name: str) -> list[str]:
    """The share of the lines behind a target that it ran, file by file."""
    data = watched.get_data()
    data.set_query_contexts([f"^{re.escape(name)}$", "^$"])
    lines = []
    for file in sorted(data.measured_files()):
        inner = Path(file).relative_to(ROOT / "daemons")
        if any(inner.match(pattern) for pattern in BEHIND[name]):
            statements = set(watched.analysis2(file)[1])
            share = len(statements & set(data.lines(file) or ())) / max(1, len(statements))
            lines.append(f"    {share:4.0%} of the lines of {inner}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
