"""Break the rules in one small way at a time and see that a test notices: mutation testing, with cosmic-ray's operators.

    make mutants                    # goes on where it was, for SECONDS=600, and reports
    make mutants SECONDS=0          # reports alone
    make mutants ARGS=--quick       # leaves out the stories of test_random.py, which take most of the time of a survivor
    make mutants ARGS=--again       # tests once more, with all there is, what has survived and is not explained

Each mutant (mutant_places.py says which there are) is one change of one place: a comparison turned round, a number one off, a
condition denied. Tests run with it in a copy of the tree (mutant_tests.py), and a mutant that they pass with has *survived*:
either nobody tests that line, or the change means the same. A mutant is shown only to tests that call the changed function,
and first to those that noticed most of its neighbours for the least time. Worlds of the simulator are one more test.

Results are kept one a line in build/mutants/results.jsonl under the digest of the function that was changed, so a run can be
stopped at any time and what has not changed need not be done again. They are done in an order drawn from the seed: what is
done so far is a fair sample of all.

Run by the Python of build/mutants/venv, which has cosmic-ray; the tests run in the project's own environment.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mutant_kinds
from mutant_places import ROOT, Mutant, mutants

WORK = ROOT / "build" / "mutants"
TESTS = ("tests/farm", "tests/session", "tests/store/test_turns.py")
WORLDS = ("worlds 0 15",)  # worlds FIRST COUNT of the simulator, in which all promises hold
STORIES = "tests/farm/test_random.py"
CLOCKED = "tests/farm/test_large_farms.py"  # goes by the processor's time: on a busy machine it would notice what is not there
SLOW_S = 3.0  # a step that takes so long comes after all others
# A step that takes this much longer than it should does not end for the change.
PATIENCE_S, PATIENCE = 3.0, 5.0

Key = tuple[str, str, int]
Result = dict[str, Any]


@dataclass
class Steps:
    """What can notice a mutant, what it takes, and what it has noticed so far."""

    took_s: dict[str, float]
    callers: dict[str, set[str]]  # of a function: the steps that call it
    killed: dict[str, Counter[str]] = field(default_factory=dict)  # by function, and by module

    def count(self, result: Result) -> None:
        """Remember which step noticed."""
        if result["outcome"] == "killed":
            for of in (_function(result), result["module"]):
                self.killed.setdefault(of, Counter())[result["by"]] += 1

    def order(self, mutant: Mutant) -> list[tuple[str, float]]:
        """The steps that a mutant is shown to, with the seconds that each may take."""
        here, near = (self.killed.get(of, Counter()) for of in (_function(asdict(mutant)), mutant.module))
        called = self.callers.get(f"{mutant.name} {mutant.function}", set()) if mutant.function else set(self.took_s)

        def worth(step: str) -> tuple[bool, float]:
            took_s = self.took_s[step]
            return took_s >= SLOW_S, -(4 * here[step] + near[step] + 0.1) / (took_s + 0.01)

        return [(step, PATIENCE_S + PATIENCE * self.took_s[step]) for step in sorted(called, key=worth)]


def _function(result: Result) -> str:
    return f"{result['module']} {result['function']}"


class ServerGone(Exception):
    """The process that runs the tests has ended."""


class Server:
    """The process that runs the tests, in a copy of the tree as it stands."""

    def __init__(self, copy: Path, python: str, tests: Sequence[str]) -> None:
        self.copy = copy
        _copied(copy)
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": "daemons:."}
        words = [python, "tools/mutant_tests.py", *tests]
        self.process = subprocess.Popen(
            words,
            cwd=copy,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, request: Result) -> Result:
        """One request, and the answer to it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise ServerGone
        answer: Result = json.loads(line)
        return answer

    def close(self) -> None:
        """End it with its forks, and remove its copy."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.copy, ignore_errors=True)

    def measured(self) -> Steps:
        """All steps as they are without a change: they pass, or there is nothing to be learned from them."""
        found = self.ask({"measure": WORLDS})["found"]
        broken = [step for step, (passes, _, _) in found.items() if not passes]
        if broken:
            raise SystemExit(f"{len(broken)} steps fail without any mutant: {', '.join(broken[:5])}")
        callers: dict[str, set[str]] = {}
        for step, (_, _, called) in found.items():
            for function in called:
                callers.setdefault(function, set()).add(step)
        return Steps({step: took_s for step, (_, took_s, _) in found.items()}, callers)

    def test(self, mutant: Mutant, steps: Steps) -> Result:
        """Whether anything notices."""
        text = (self.copy / mutant.module).read_text()
        changed = mutant.source(text)
        diff = difflib.unified_diff(text.splitlines(), changed.splitlines(), lineterm="", n=0)
        began_s = time.monotonic()
        request = {
            "module": mutant.name,
            "function": mutant.function,
            "source": changed,
            "steps": steps.order(mutant),
        }
        answer = self.ask(request)
        took_s = round(time.monotonic() - began_s, 2)
        return {**asdict(mutant), "by": "", **answer, "took_s": took_s, "diff": "\n".join(list(diff)[3:])}


def _copied(copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)


def run(todo: list[Mutant], known: Iterable[Result], results: Path, args: argparse.Namespace) -> None:
    """Test mutants until the time is over; each result is written as it comes."""
    ends_s = time.monotonic() + args.seconds
    tests = [*TESTS, f"--ignore={CLOCKED}", *([f"--ignore={STORIES}"] if args.quick else [])]
    copies = [WORK / f"tree-{os.getpid()}-{each}" for each in range(args.workers)]
    servers = [Server(copy, args.tests_python, tests) for copy in copies]
    waiting, lock, stopped = iter(todo), threading.Lock(), threading.Event()
    try:
        steps = servers[0].measured()
        for result in known:
            steps.count(result)

        def work(server: Server) -> None:
            while time.monotonic() < ends_s and not stopped.is_set():
                with lock:
                    mutant = next(waiting, None)
                if mutant is None:
                    return
                try:
                    result = server.test(mutant, steps)
                except ServerGone:
                    if stopped.is_set():
                        return
                    raise
                with lock, results.open("a") as out:
                    steps.count(result)
                    print(json.dumps(result), file=out, flush=True)

        threads = [threading.Thread(target=work, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stopped.set()
        for server in servers:
            server.close()


def report(every: list[Mutant], known: dict[Key, Result]) -> None:
    """What is known of the mutants that there are now."""
    found = [known[mutant.key] | asdict(mutant) for mutant in every if mutant.key in known]
    outcomes = Counter(result["outcome"] for result in found)
    alive = [result for result in found if result["outcome"] == "survived"]
    entries = mutant_kinds.known()
    kinds = {id(result): entry.kind for result in alive for entry in entries if entry.is_of(result)}
    for result in sorted(alive, key=lambda one: (one["module"], one["line"])):
        if id(result) not in kinds:
            changed = [line for line in result["diff"].splitlines() if line[:1] in "+-"]
            print(f"{result['module']}:{result['line']} {result['operator'].partition('/')[2]}", *changed, sep="\n    ")
    for kind, count in Counter(kinds.values()).most_common():
        print(f"{count:4} mean the same: {kind}")
    for entry in mutant_kinds.gone(entries):
        print(f"no such text any more: {entry}")
    for entry in entries:
        if any(entry.is_of(result) for result in found if result["outcome"] == "killed"):
            print(f"was noticed, and needs no explanation: {entry}")
    tested = outcomes["killed"] + outcomes["survived"]
    worlds = sum(result["outcome"] == "killed" and result["by"] in WORLDS for result in found)
    slow = sum(result["took_s"] for result in found)
    print(f"{len(every)} mutants, {len(found)} tested in {slow:.0f} s: {outcomes['killed']} killed", end="")
    print(f" ({worlds} of them by worlds of the simulator), {_of(len(alive), tested)} survived", end="")
    print(f", and {_of(len(alive) - len(kinds), tested)} of these are not explained", end="")
    print(f", {outcomes['incompetent']} no program" if outcomes["incompetent"] else "")


def _of(count: int, total: int) -> str:
    return f"{count} ({100 * count / max(1, total):.1f} %)"


def main() -> int:
    """Go on, and report."""
    parser = argparse.ArgumentParser(description="break the rules one small way at a time and see that a test notices")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to go on; 0 only reports")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--quick", action="store_true", help=f"without {STORIES}")
    parser.add_argument("--again", action="store_true", help="test what has survived and is not explained once more")
    parser.add_argument("--only", default="", metavar="TEXT", help="only modules with this in their name")
    parser.add_argument("--tests-python", default=str(ROOT / ".venv" / "bin" / "python"), help="what runs the tests")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    WORK.mkdir(parents=True, exist_ok=True)
    results = WORK / "results.jsonl"
    known = _known(results)
    every = [mutant for mutant in mutants() if args.only in mutant.module]
    entries = mutant_kinds.known()
    alive = {key: result for key, result in known.items() if result["outcome"] == "survived"}
    survived = {key for key, result in alive.items() if not any(entry.is_of(result) for entry in entries)}
    todo = [one for one in every if one.key not in known or (args.again and one.key in survived)]
    random.Random(args.seed).shuffle(todo)
    if args.again:
        todo.sort(key=lambda one: one.key not in survived)
    if args.seconds and todo:
        run(todo, known.values(), results, args)
    report(every, _known(results))
    return 0


def _known(results: Path) -> dict[Key, Result]:
    """The newest word on each mutant."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {(one["digest"], one["operator"], one["place"]): one for one in map(json.loads, lines) if "place" in one}


if __name__ == "__main__":
    sys.exit(main())
