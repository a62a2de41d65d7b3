"""Break the rules in one small way at a time and see that a test notices: mutation testing, with cosmic-ray's operators.

    make mutants                    # goes on where it was, for SECONDS=600, and reports
    make mutants SECONDS=0          # reports alone

Each mutant is one change of one place: a comparison turned round, a number one off, a condition denied. It is made in a
copy of the tree, the tests run there, and a mutant that they pass with has *survived*: either nobody tests that line, or
the change means the same. Results are kept one a line in build/mutants/results.jsonl under the digest of their module, so
a run can be stopped at any time and a module that has not changed need not be done again. They are done in an order drawn
from the seed: what is done so far is a fair sample of all.

Left out are places where a change cannot change what the program does: annotations, and `frozen` and `slots` of
dataclasses, which bind those who write the code and not those who run it.

Run by the Python of build/mutants/venv, which has cosmic-ray; the tests run in the project's own environment.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
RULES = "daemons/ffrtmp/farm"
# Quick ones first: a mutant that these catch needs no more.
STAGES = ("tests/farm", "tests/session tests/store/test_turns.py")
TIMEOUT_S = 120
BINDING_ONLY = {"frozen", "slots", "kw_only"}


@dataclass(frozen=True)
class Mutant:
    """One change. `digest` is of the module that it belongs to, `occurrence` counts the operator's places in it."""

    module: str
    digest: str
    operator: str
    occurrence: int
    line: int
    column: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is recorded under."""
        return (self.digest, self.operator, self.occurrence)


def mutants() -> Iterator[Mutant]:
    """All of the rules, as cosmic-ray's operators make them."""
    for path in sorted((ROOT / RULES).glob("*.py")):
        text = path.read_text()
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        deaf = list(_without_effect(ast.parse(text)))
        tree = get_ast_from_path(path)
        for name in operator_names():
            kind = get_operator(name)
            if kind.arguments():
                continue
            places = (place for node in ast_nodes(tree) for place in kind().mutation_positions(node))
            for occurrence, (start, _end) in enumerate(places):
                if not any(first <= start < last for first, last in deaf):
                    yield Mutant(str(path.relative_to(ROOT)), digest, name, occurrence, *start)


def _without_effect(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a change does nothing, as (first, last) places of (line, column)."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = [node.returns]
            yield from _between(node)
        elif isinstance(node, ast.ClassDef):
            calls = [each for each in node.decorator_list if isinstance(each, ast.Call)]
            parts = [word for call in calls for word in call.keywords if word.arg in BINDING_ONLY]
        for part in parts:
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)  # type: ignore[attr-defined]


def _between(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The bare star of a signature, which an operator takes for a multiplication."""
    arguments = function.args
    if arguments.kwonlyargs and arguments.vararg is None:
        before: list[ast.expr | ast.arg] = [*arguments.posonlyargs, *arguments.args, *arguments.defaults]
        ends = [(place.end_lineno or 0, place.end_col_offset or 0) for place in before]
        last = max([(function.lineno, function.col_offset), *ends])
        first = arguments.kwonlyargs[0]
        yield last, (first.lineno, first.col_offset)


def test(mutant: Mutant, tests: str) -> tuple[Mutant, str, str]:
    """Whether the tests notice, in the copy of this process: (mutant, outcome, diff)."""
    os.chdir(_copy())
    os.environ["PYTHONPATH"] = "daemons:."
    spec = MutationSpec(
        Path(mutant.module),
        mutant.operator,
        mutant.occurrence,
        start_pos=(mutant.line, mutant.column),
        end_pos=(mutant.line, mutant.column + 1),
    )
    diff = ""
    for stage in STAGES:
        words = f"{tests} -m pytest -x -q -p no:cacheprovider {stage}"
        result = mutate_and_test([spec], words, TIMEOUT_S)
        diff = result.diff or ""
        if result.test_outcome is None or result.test_outcome.value != "survived":
            return mutant, result.test_outcome.value if result.test_outcome else "no test", diff
    return mutant, "survived", diff


def _copy() -> Path:
    """This process's own copy of the tree, as it stands."""
    copy = WORK / f"tree-{os.getpid()}"
    if not copy.exists():
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, names.decode().split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
    return copy


def run(todo: list[Mutant], results: Path, tests: str, seconds: float, workers: int) -> None:
    """Test mutants until the time is over; each result is written as it comes."""
    ends_s = time.monotonic() + seconds
    waiting = iter(todo)
    try:
        with ProcessPoolExecutor(workers) as pool, results.open("a") as out:
            under_way = {pool.submit(test, mutant, tests) for mutant, _ in zip(waiting, range(workers), strict=False)}
            while under_way:
                done = {future for future in under_way if future.done()}
                under_way -= done
                for future in done:
                    mutant, outcome, diff = future.result()
                    print(json.dumps({**asdict(mutant), "outcome": outcome, "diff": diff}), file=out, flush=True)
                    if time.monotonic() < ends_s and (following := next(waiting, None)):
                        under_way.add(pool.submit(test, following, tests))
                time.sleep(0.05)
    finally:
        for copy in WORK.glob("tree-*"):
            shutil.rmtree(copy)


def report(every: list[Mutant], known: dict[tuple[str, str, int], dict[str, str]]) -> None:
    """What is known of the mutants that there are now."""
    outcomes = Counter(known[mutant.key]["outcome"] for mutant in every if mutant.key in known)
    tested = outcomes["killed"] + outcomes["survived"]
    for mutant in sorted(every, key=lambda one: (one.module, one.line)):
        if known.get(mutant.key, {}).get("outcome") == "survived":
            changed = [
                line for line in known[mutant.key]["diff"].splitlines() if line[:1] in "+-" and line[:3] != "---"
            ]
            print(f"{mutant.module}:{mutant.line}", *(line for line in changed if line[:3] != "+++"), sep="\n    ")
    alive = 100 * outcomes["survived"] / tested if tested else 0.0
    others = ", ".join(f"{count} {name}" for name, count in outcomes.items() if name not in ("killed", "survived"))
    print(f"{len(every)} mutants, {sum(outcomes.values())} tested: {outcomes['killed']} killed", end="")
    print(f", {outcomes['survived']} survived ({alive:.1f} %){', ' + others if others else ''}")


def main() -> int:
    """Go on, and report."""
    parser = argparse.ArgumentParser(description="break the rules one small way at a time and see that a test notices")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to go on; 0 only reports")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--tests-python", default=str(ROOT / ".venv" / "bin" / "python"), help="what runs the tests")
    args = parser.parse_args()
    results = WORK / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    known = {(one["digest"], one["operator"], one["occurrence"]): one for one in map(json.loads, lines)}
    every = list(mutants())
    todo = [mutant for mutant in every if mutant.key not in known]
    random.Random(args.seed).shuffle(todo)
    if args.seconds and todo:
        run(todo, results, args.tests_python, args.seconds, args.workers)
        known = {(one["digest"], one["operator"], one["occurrence"]): one for one in map(json.loads, results.open())}
    report(every, known)
    return 0


if __name__ == "__main__":
    sys.exit(main())
