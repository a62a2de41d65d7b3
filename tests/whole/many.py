"""Many short jobs over four agents that are killed at random: the story that test_many.py and tests/faults tell."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whole.scene import decodes, nothing_left, one_history, replay

from daemons import Farm, until

AGENTS = ("a", "b", "c", "d")  # 127.0.0.2 to 127.0.0.5
PATIENCE = {"poison_losses": "100", "backoff": "1s", "backoff_max": "4s", "doubt_patience": "5s"}


@dataclass
class Run:
    """What happened, in figures."""

    jobs: int
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    most_attempts: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """For the record."""
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items())) or "none"
        tries = f"{self.attempts} attempts, at most {self.most_attempts} of one job"
        return f"{self.jobs} jobs, seed {self.seed}: {self.seconds:.0f} s, {tries}; killed: {kills}"


def many(folder: Path, jobs: int, seed: int, *, deadline_s: float, pause_s: float = 3.0) -> Run:
    """Run `jobs` encodes over four agents and kill one of them every `pause_s` or so; then look at everything."""
    run, chance = Run(jobs, seed), random.Random(seed)
    with Farm(folder, **PATIENCE) as farm:
        farm.start_master()
        for name in AGENTS:
            farm.start_agent(name, slots=2)
        began_s = time.monotonic()
        _submit(farm, jobs)
        _kill_at_random(farm, run, chance, began_s + deadline_s, pause_s)
        left_s = max(60.0, began_s + deadline_s - time.monotonic())
        until("the last job to end", lambda: not _open(farm), left_s)
        run.seconds = time.monotonic() - began_s
        nothing_left(farm)
        for number in range(1, jobs + 1):
            _once(farm, number, run)
        _outputs(farm, jobs)
        replay(farm)
    return run


def _submit(farm: Farm, jobs: int) -> None:
    pattern = {"width": 160, "height": 90, "fps": 10, "duration_s": 1}
    lines = [
        json.dumps(
            {"scenario": "480p30-h264", "generate": pattern, "output": f"media:{number}.mp4", "max_retries": 100}
        )
        for number in range(1, jobs + 1)
    ]
    farm.ctl("jobs", "submit", "--from", "-", check=True, stdin="\n".join(lines))


def _open(farm: Farm) -> bool:
    return bool(farm.get("/v1/jobs?state=open&limit=1")["items"])


def _kill_at_random(farm: Farm, run: Run, chance: random.Random, ends_s: float, pause_s: float) -> None:
    """Kill an agent now and then, alone or with its host, and start it again before or after it is called lost."""
    back_s: dict[str, float] = {}
    next_s = time.monotonic() + chance.uniform(0, pause_s)
    while _open(farm) and time.monotonic() < ends_s:
        now_s = time.monotonic()
        for name in [name for name, at_s in back_s.items() if at_s <= now_s]:
            del back_s[name]
            farm.start_agent(name, slots=2, wait=False)
        if now_s >= next_s:
            next_s = now_s + chance.uniform(0.5, 1.5) * pause_s
            name, kind = chance.choice(AGENTS), chance.choice(("agent", "host", "host"))
            away_s = chance.choice((0.0, 1.0, 5.0))
            if name not in back_s:
                _kill(farm, name, kind)
                run.kills[kind] += 1
                back_s[name] = now_s + away_s
        time.sleep(0.1)
    for name in back_s:
        farm.start_agent(name, slots=2, wait=False)


def _kill(farm: Farm, name: str, kind: str) -> None:
    if kind == "host":
        farm.kill_host(name)
    else:
        farm.agents[name].kill()


def _once(farm: Farm, number: int, run: Run) -> None:
    """One job was completed, once, by the attempt that was granted last."""
    rows: list[dict[str, Any]] = one_history(farm, number)
    ends = [row for row in rows if row["after"] == "completed" and row.get("before") != "completed"]
    grants = [row for row in rows if row["kind"] == "granted"]
    assert len(ends) == 1, rows
    assert grants, rows
    assert grants[-1]["attempt"] == ends[0]["attempt"], rows
    attempts = max(row["attempt"] for row in rows)
    run.attempts += attempts
    run.most_attempts = max(run.most_attempts, attempts)


def _outputs(farm: Farm, jobs: int) -> None:
    """Every output is there and decodes, and nothing else is; files of the same content are decoded once."""
    names = {path.name for path in farm.media.iterdir() if path.name != ".ffrtmp"}
    assert names == {f"{number}.mp4" for number in range(1, jobs + 1)}
    contents = {hashlib.sha256((farm.media / name).read_bytes()).hexdigest(): name for name in sorted(names)}
    for name in contents.values():
        assert abs(decodes(farm.media / name) - 1.0) < 0.2
