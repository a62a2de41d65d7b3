"""A user of the farm who submits jobs all the time and writes down what was answered, and what was seen of the outputs.

A call that broke off is made again with the same idempotency key until it is answered: it is not known whether the first
one was heard. What was answered must be true from then on; `checker` compares.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos.site import AGENTS, FILMS_S, Site

ENDED = ("completed", "failed", "timed_out", "canceled", "rejected")
LOOK_S = 0.1
AGAIN_S = 0.2


@dataclass
class Ask:
    """One submission, its output's place, and what became of it as far as the observer was told."""

    key: str
    body: dict[str, Any]
    output: Path
    length_s: float
    tries: int = 0
    number: int = 0  # 0: never answered
    told: str = ""  # the terminal state that the API has told
    cancel: str = ""  # "canceled" where a cancel was asked for and taken
    refused: str = ""


@dataclass(frozen=True)
class Seen:
    """An output as it was first seen at its place."""

    inode: int
    modified_ns: int
    size: int


@dataclass
class Notes:
    """All that the observer knows."""

    asks: list[Ask] = field(default_factory=list)
    outputs: dict[Path, Seen] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    longest_answer_s: float = 0.0


class Observer:
    """Submits, cancels and looks in threads of its own while the block lasts."""

    def __init__(self, site: Site, seed: int, pause_s: float) -> None:
        self.site = site
        self.notes = Notes()
        self._chance = random.Random(seed)
        self._pause_s = pause_s
        self._enough = threading.Event()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._submit, self._ask, self._look)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._enough.set()
        self.rest()

    def no_more(self, within_s: float = 60.0) -> None:
        """Submit nothing new; what is under way is answered first."""
        self._enough.set()
        self._threads[0].join(within_s)
        if self._threads[0].is_alive():
            self.notes.wrong.append(f"a submission was not answered within {within_s:g} s of peace")

    # ---- submitting ----------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        while not self._enough.wait(self._chance.uniform(0.5, 1.5) * self._pause_s):
            ask = self._next()
            self.notes.asks.append(ask)
            self._until_answered(ask)
            if ask.number and self._chance.random() < 0.08:
                self._cancel(ask)

    def _next(self) -> Ask:
        count = len(self.notes.asks) + 1
        own = self._chance.random() < 0.3
        host = self._chance.choice(AGENTS)
        root, folder = (f"disk-{host}", self.site.own_media(host)) if own else ("media", self.site.media)
        body: dict[str, Any] = {
            "output": f"{root}:out/{count}.mp4" if count % 5 == 0 else f"{root}:{count}.mp4",
            "queue": self._chance.choice(("live", "default", "default", "batch")),
            "priority": self._chance.choice(("high", "medium", "low")),
            "max_retries": 50,
        }
        output = folder / body["output"].partition(":")[2]
        if self._chance.random() < 0.5:
            pattern = {"width": 160, "height": 90, "fps": 10, "duration_s": 1}
            return Ask(f"chaos-{count}", {**body, "scenario": "480p30-h264", "generate": pattern}, output, 1.0)
        length_s = self._chance.choice(FILMS_S)
        copied = ["-re", "-i", "{input}", "-c", "copy", "{output}"]
        body |= {"input": f"{root}:film{length_s}.mkv", "arguments": copied}
        return Ask(f"chaos-{count}", body, output, float(length_s))

    def _until_answered(self, ask: Ask) -> None:
        while not self._over.is_set():
            ask.tries += 1
            answered = self._call("POST", "/v1/jobs", ask.body, {"Idempotency-Key": ask.key})
            if answered is None or answered[0] == 503:
                self._over.wait(AGAIN_S)
                continue
            status, answer = answered
            if status == 201:
                ask.number = int(answer["items"][0]["job"])
            else:
                ask.refused = f"{status} {answer}"
            return

    def _cancel(self, ask: Ask) -> None:
        self._over.wait(self._chance.uniform(0.0, 4.0))
        answered = self._call("POST", f"/v1/jobs/{ask.number}/cancel", {}, {})
        if answered is not None and answered[0] in (200, 202):
            ask.cancel = "canceled"
            self.notes.counts["cancels that were taken"] += 1

    def _call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any] | None:
        """One call; None where it broke off, so that nobody knows what became of it."""
        began_s = time.monotonic()
        try:
            status, answer = self.site.api(method, path, body, headers)
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            self.notes.counts[f"calls that broke off: {type(error).__name__}"] += 1
            return None
        self.notes.longest_answer_s = max(self.notes.longest_answer_s, time.monotonic() - began_s)
        self.notes.counts[f"answers {status}"] += 1
        return status, answer

    # ---- looking -------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask for the newest jobs: what has ended, and was told so, stays so."""
        while not self._over.wait(0.5):
            answered = self._call("GET", "/v1/jobs?limit=100", None, {})
            if answered is None or answered[0] != 200:
                continue
            states = {int(item["job"]): str(item["state"]) for item in answered[1]["items"]}
            for ask in list(self.notes.asks):
                state = states.get(ask.number, "")
                if ask.told and state and state != ask.told:
                    self.notes.wrong.append(f"job {ask.number} was told to be {ask.told}, and later {state}")
                if state in ENDED:
                    ask.told = state

    def _look(self) -> None:
        """Look at the outputs' places: what stands there once is never touched again."""
        while not self._over.wait(LOOK_S):
            self.look()

    def rest(self) -> None:
        """Stop looking at the master, which is about to be stopped."""
        self._over.set()
        for thread in self._threads:
            thread.join(90)

    def look(self) -> None:
        """One round of looking at the outputs."""
        for ask in list(self.notes.asks):
            try:
                found = ask.output.stat()
            except OSError:
                if ask.output in self.notes.outputs:
                    self._wrong_once(f"{ask.output} was there and is gone")
                continue
            seen = Seen(found.st_ino, found.st_mtime_ns, found.st_size)
            if self.notes.outputs.setdefault(ask.output, seen) != seen:
                self._wrong_once(f"{ask.output} was changed after it had been published")

    def _wrong_once(self, what: str) -> None:
        if what not in self.notes.wrong:
            self.notes.wrong.append(what)
