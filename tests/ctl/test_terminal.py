"""On a terminal: a bar, a question, and nothing that steers it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ctl.conftest import PROGRAM, a_job
from ctl.peer import Peer, events, gives, streams

from ffrtmp import api

DEADLINE_S = 15.0


@dataclass
class Terminal:
    """A program on a pseudo-terminal, and all that it has shown so far."""

    process: subprocess.Popen[bytes]
    side: int
    shown: str = ""
    raw: bytes = field(default=b"", repr=False)

    def until(self, true: Callable[[str], bool]) -> None:
        """Read until something is shown, or fail."""
        ends = time.monotonic() + DEADLINE_S
        while not true(self.shown):
            assert self._read(ends), f"not shown: {self.shown}"

    def type(self, text: str) -> None:
        os.write(self.side, text.encode())

    def wait(self) -> int:
        """The exit code, after all was read."""
        ends = time.monotonic() + DEADLINE_S
        while self._read(ends):
            pass
        return self.process.wait(DEADLINE_S)

    def _read(self, ends: float) -> bool:
        ready, _, _ = select.select([self.side], [], [], max(0.0, ends - time.monotonic()))
        try:
            data = os.read(self.side, 65536) if ready else b""
        except OSError:  # EIO: the other side has closed
            data = b""
        self.raw += data
        self.shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode(errors="replace"))
        return bool(data)


@contextmanager
def on_terminal(environment: dict[str, str], *words: str, columns: int = 100) -> Iterator[Terminal]:
    side, other = pty.openpty()
    termios.tcsetwinsize(other, (24, columns))
    process = subprocess.Popen([PROGRAM, *words], env=environment, stdin=other, stdout=other, stderr=other)
    os.close(other)
    try:
        yield Terminal(process, side)
    finally:
        process.kill()
        process.wait()
        os.close(side)


def test_progress_is_a_bar_that_goes_away_and_leaves_the_result(peer: Peer, environment: dict[str, str]):
    views = [a_job(node="a", percent=float(percent)) for percent in (10, 55, 90)]
    peer.on("GET /v1/jobs/42", gives(views[0]))
    peer.on("GET /v1/jobs/42/events", events(*views, a_job(state="completed")))
    with on_terminal(environment, "status", "42", "--follow") as terminal:
        assert terminal.wait() == 0
    assert "━" in terminal.shown and "job 42 is running on a" in terminal.shown
    assert terminal.shown.rstrip().endswith("job 42 completed: media:out.mp4")


def test_a_bar_survives_a_break_and_says_that_the_master_was_away(peer: Peer, environment: dict[str, str]):
    peer.on("GET /v1/jobs/42", gives(a_job()))
    peer.on("GET /v1/jobs/42/events", events(a_job(), cut=True), events(a_job(state="completed")))
    with on_terminal(environment, "status", "42", "--wait") as terminal:
        assert terminal.wait() == 0
    assert "the master is away" in terminal.shown and "the master is back" in terminal.shown


def test_a_person_is_asked_before_many_jobs_are_canceled(peer: Peer, environment: dict[str, str]):
    peer.on("GET /v1/jobs", gives(api.Page(items=(a_job(job=1), a_job(job=2)))))
    peer.on("POST /v1/jobs/cancel", gives(api.Many(done=(1, 2)), 202))
    for answer, code, words in (("n", 4, "nothing was done"), ("y", 0, "2 jobs canceled")):
        with on_terminal(environment, "jobs", "cancel", "--queue", "batch") as terminal:
            terminal.until(lambda shown: "cancel 2 jobs (queue=batch)? [y/N] " in shown)
            assert all(asked.method == "GET" for asked in peer.asked)
            terminal.type(f"{answer}\n")
            assert terminal.wait() == code
        assert words in terminal.shown


def test_a_person_is_asked_before_a_node_is_removed_and_a_script_has_to_say_yes(
    peer: Peer, environment: dict[str, str]
):
    peer.on("DELETE /v1/nodes/a", gives(api.Done(detail="gone")))
    for answer, code in (("", 4), ("y", 0)):
        with on_terminal(environment, "nodes", "remove", "a") as terminal:
            terminal.until(lambda shown: "remove node a for good" in shown and "? [y/N] " in shown)
            assert peer.asked == []
            terminal.type(f"{answer}\n")
            assert terminal.wait() == code
    command = [PROGRAM, "nodes", "remove", "a"]
    script = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert script.returncode == 2 and "there is no terminal" in script.stderr and "--yes" in script.stderr
    assert len(peer.asked) == 1
    subprocess.run([*command, "--yes"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert len(peer.asked) == 2


def test_a_log_cannot_steer_the_terminal(peer: Peer, environment: dict[str, str]):
    peer.on("GET /v1/jobs/42/logs", streams([b"title: \x1b]0;owned\x07\x1b[2J\ttab\n"]))
    with on_terminal(environment, "logs", "42") as terminal:
        assert terminal.wait() == 0
    assert b"\x1b" not in terminal.raw and b"\x07" not in terminal.raw
    assert terminal.shown.startswith("title: ]0;owned[2J\ttab")


def test_a_table_is_cut_at_the_edge_of_the_terminal(peer: Peer, environment: dict[str, str]):
    peer.on("GET /v1/jobs", gives(api.Page(items=(a_job(output="media:" + "x" * 300),))))
    with on_terminal(environment, "list", columns=80) as terminal:
        assert terminal.wait() == 0
    line = terminal.shown.splitlines()[1]
    assert line.endswith("…") and len(line) == 80
