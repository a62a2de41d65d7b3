"""Run the tests of the rules against one mutant after the other, each in a fork of a process that has them imported.

    python tools/mutant_tests.py TESTS...       # in a copy of the tree; a request a line on stdin, an answer a line on stdout

What a test run costs is mostly what comes before the first test: imports, fixtures, the collecting. That is done once here.
A mutant of a function's body is a fork in which that function gets the changed code. A mutant of anything else (a default, a
constant, a decorator) is a fork of a process that has imported what the tests need but for this project, so that the
changed module is met by an ordinary import.

A request is `{"measure": [more steps]}` or a mutant: `module`, its changed `source`, the `function` that was changed ("" for
none), and the `steps` that are to notice, in order: names of tests, and `worlds FIRST COUNT` for worlds of the simulator. The
answer has the `outcome` (killed, survived, incompetent where it cannot even be compiled), and in `by` the step that noticed.
A step that takes several times as long as it does without the change has noticed too: most such mutants never end.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import IO, Any, NoReturn

import pytest

# What the tests import beside this project: loaded once, before anything is forked.
LOADED = (
    "aiohttp",
    "aiohttp.web",
    "apsw",
    "hypothesis",
    "hypothesis.strategies",
    "msgspec",
    "psutil",
    "rich",
    "zmq.asyncio",
)
RULES = "ffrtmp.farm"
WORLDS = "worlds"
STALLED_S = 300.0
MEMORY_BYTES = 3 << 30
OPTIONS = ("-s", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:terminalreporter")

Answer = dict[str, Any]
Request = dict[str, Any]


# ---- forks -------------------------------------------------------------------------------------------------------


def fork(work: Callable[[Callable[[Answer], NoReturn]], object]) -> Answer:
    """Do work in a fork of this process, which is handed what it ends with: `tell(answer)`."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _child(work, theirs)
    theirs.close()
    with ours, ours.makefile() as lines:
        if not select.select([ours], [], [], STALLED_S)[0]:
            os.kill(pid, signal.SIGKILL)
        line = lines.readline()
    os.waitpid(pid, 0)
    answer: Answer = json.loads(line) if line else {"outcome": "killed", "by": "its process died or stood still"}
    return answer


def _child(work: Callable[[Callable[[Answer], NoReturn]], object], to: socket.socket) -> NoReturn:
    def tell(answer: Answer) -> NoReturn:
        to.sendall(json.dumps(answer).encode() + b"\n")
        os._exit(0)

    os.dup2(1, 2)  # what a broken program complains of
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        work(tell)
        tell({"outcome": "killed", "by": "the tests could not be collected"})
    except BaseException as error:
        tell({"outcome": "killed", "by": f"before any test: {type(error).__name__}: {error}"[:300]})
    finally:
        os._exit(1)


# ---- mutants -----------------------------------------------------------------------------------------------------


class Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds one module, and has its code changed."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name = name
        self.path = path
        self.source = source

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The changed module, and none but that."""
        if name != self.name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self.path))

    def get_source(self, fullname: str) -> str:
        """The changed text."""
        return self.source


def inside(code: CodeType) -> Iterator[CodeType]:
    """All code in this code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from inside(constant)


def give(request: Request, functions: dict[tuple[str, str], list[FunctionType]]) -> None:
    """Let a function that is there have the changed code."""
    changed = compile(request["source"], request["module"], "exec", dont_inherit=True)
    code = next(code for code in inside(changed) if code.co_qualname == request["function"])
    for function in functions[(request["module"], request["function"])]:
        function.__code__ = code


def functions_of_the_rules() -> dict[tuple[str, str], list[FunctionType]]:
    """By module and name: what was imported, methods too."""
    found: dict[tuple[str, str], list[FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and (thing.__module__ or "").startswith(RULES):
            found.setdefault((thing.__module__, thing.__code__.co_qualname), []).append(thing)
    return found


# ---- tests -------------------------------------------------------------------------------------------------------


class Tests:
    """A plugin of pytest that runs what it is asked for in place of everything."""

    def __init__(self, work: Callable[[Tests], object]) -> None:
        self.work = work
        self.items: dict[str, pytest.Item] = {}
        self.failed = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All that pytest is here for."""
        self.items = {item.nodeid: item for item in session.items}
        self.work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a failure, in a test or in what it needs."""
        self.failed = self.failed or report.failed

    def step(self, name: str, after: Sequence[str]) -> bool:
        """Whether a step passes, after which those are to come."""
        if name.startswith(WORLDS):
            _, first, count = name.split()
            return worlds_hold(int(first), int(count))
        item = self.items[name]
        module: Any = getattr(item, "module", None)
        if hasattr(module, "shortened"):
            module.shortened = lambda *_: "a story"  # to tell a failure shortly costs more than to find it
        self.failed = False
        following = [self.items[each] for each in after if each in self.items]
        # With none to follow, all would be torn down; this process ends by itself, and sooner.
        nextitem = following[0] if following else next(each for each in self.items.values() if each is not item)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        return not self.failed

    def notice(self, request: Request, tell: Callable[[Answer], NoReturn]) -> NoReturn:
        """Run steps until one fails."""
        step = ""

        def late(_signal: int, _frame: FrameType | None) -> None:
            tell({"outcome": "killed", "by": step, "how": "time"})

        signal.signal(signal.SIGPROF, late)
        names = [name for name, _ in request["steps"]]
        if any(name not in self.items and not name.startswith(WORLDS) for name in names):
            tell({"outcome": "killed", "by": "the import of the tests"})
        for place, (step, limit_s) in enumerate(request["steps"]):
            signal.setitimer(signal.ITIMER_PROF, limit_s)
            if not self.step(step, names[place + 1 :]):
                tell({"outcome": "killed", "by": step})
        tell({"outcome": "survived"})

    def measure(self, steps: Sequence[str], tell: Callable[[Answer], NoReturn]) -> NoReturn:
        """Each step: whether it passes, how long it takes, which functions of the rules it calls."""
        found: dict[str, tuple[bool, float, list[str]]] = {}
        names = [*self.items, *steps]
        took_s: dict[str, float] = {}
        for place, name in enumerate(names):
            began_s = time.process_time()
            if self.step(name, names[place + 1 :] or names):
                took_s[name] = time.process_time() - began_s
        for place, name in enumerate(names):
            called: set[CodeType] = set()
            sys.setprofile(lambda frame, _what, _arg, called=called: called.add(frame.f_code))  # type: ignore[misc]
            self.step(name, names[place + 1 :])
            sys.setprofile(None)
            found[name] = (name in took_s, took_s.get(name, 0.0), sorted(filter(None, map(_of_the_rules, called))))
        tell({"found": found})


def _of_the_rules(code: CodeType) -> str:
    path = Path(code.co_filename)
    return f"{RULES}.{path.stem} {code.co_qualname}" if path.parts[-3:-1] == ("ffrtmp", "farm") else ""


def worlds_hold(first: int, count: int) -> bool:
    """Whether all promises hold in these worlds of the simulator."""
    from simulation import many  # type: ignore[import-not-found]

    with many.a_place() as (base, made):
        return not any(many.one(seed, base, made).broken for seed in range(first, first + count))


def collect(tests: Sequence[str], work: Callable[[Tests], object]) -> None:
    """Import and collect the tests, then do that with them."""
    build = Path("build").absolute()
    build.mkdir(exist_ok=True)
    pytest.main([*OPTIONS, f"--basetemp={build / 'tmp'}", *tests], plugins=[Tests(work)])


# ---- the two servers ---------------------------------------------------------------------------------------------


def ready(tests: Sequence[str], requests: IO[str], to: socket.socket) -> NoReturn:
    """Answer, in a process that has imported and collected everything."""

    def serve(collected: Tests) -> None:
        worlds_hold(0, 0)
        functions = functions_of_the_rules()
        gc.collect()
        gc.freeze()
        for line in requests:
            answer = fork(lambda tell, line=line: _answer(collected, json.loads(line), functions, tell))  # type: ignore[misc]
            to.sendall(json.dumps(answer).encode() + b"\n")

    collect(tests, serve)
    os._exit(0)


def _answer(
    collected: Tests,
    request: Request,
    functions: dict[tuple[str, str], list[FunctionType]],
    tell: Callable[[Answer], NoReturn],
) -> NoReturn:
    if "measure" in request:
        collected.measure(request["measure"], tell)
    give(request, functions)
    collected.notice(request, tell)


def afresh(tests: Sequence[str], request: Request) -> Answer:
    """Answer with everything of this project imported anew."""

    def work(tell: Callable[[Answer], NoReturn]) -> None:
        path = Path("daemons", *request["module"].split(".")).with_suffix(".py").absolute()
        sys.meta_path.insert(0, Changed(request["module"], path, request["source"]))
        collect(tests, lambda collected: collected.notice(request, tell))

    return fork(work)


def main() -> int:
    """Serve until stdin is closed."""
    tests = sys.argv[1:]
    warnings.simplefilter("ignore", SyntaxWarning)  # of `is` beside a number or a word: that is the mutant
    questions, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    sys.path[:0] = [str(Path(name).absolute()) for name in ("tests", "daemons", ".")]
    for name in LOADED:
        importlib.import_module(name)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        ready(tests, theirs.makefile(), theirs)
    theirs.close()
    heard = ours.makefile()
    for line in questions:
        request = json.loads(line)
        try:
            compile(request.get("source", ""), "", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            answer = {"outcome": "incompetent"}
        else:
            if request.get("function", "measured"):
                ours.sendall(line.encode())
                answer = json.loads(heard.readline())
            else:
                answer = afresh(tests, request)
        print(json.dumps(answer), file=answers, flush=True)
    heard.close()
    ours.close()
    os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
