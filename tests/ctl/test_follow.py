"""Who follows a job or its log sees all of it once, whatever happens to the master meanwhile."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest
from ctl.conftest import PROGRAM, Ctl, a_job
from ctl.peer import Handler, Peer, events, gives, hangs_up, problem, streams
from hypothesis import given
from hypothesis import strategies as st

from ffrtmp.api import TERMINAL_STATES, Submitted, SubmittedJob, log_cut
from ffrtmp.errors import FarmError
from ffrtmpctl import patience as patience_module
from ffrtmpctl import watch
from ffrtmpctl.address import Address
from ffrtmpctl.client import Master, NoMaster
from ffrtmpctl.commands import logs as logs_module
from ffrtmpctl.commands.logs import Place
from ffrtmpctl.context import Context
from ffrtmpctl.display import EVERY_S, Lines
from ffrtmpctl.patience import Patience
from ffrtmpctl.telling import headline

JOB, EVENTS, LOGS = "GET /v1/jobs/42", "GET /v1/jobs/42/events", "GET /v1/jobs/42/logs"
DONE = a_job(state="completed", node="a", attempt=1)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps, without the seconds between them."""
    monkeypatch.setattr(watch, "PAUSE_S", 0.01)
    monkeypatch.setattr(logs_module, "PAUSE_S", 0.01)


# ---- states ----------------------------------------------------------------------------------------------------------


def test_following_goes_on_over_a_broken_connection_and_tells_nothing_twice(ctl: Ctl, peer: Peer):
    running = a_job(node="a", percent=10.0)
    peer.on(JOB, gives(running))
    peer.on(EVENTS, events(running, cut=True), problem(503, "the store is busy"), events(running, DONE))
    run = ctl("status", 42, "--follow")
    assert run.code == 0
    assert run.out.splitlines() == ["job 42 is running on a, 10 %", "job 42 completed: media:out.mp4"]
    assert "the master is away" in run.err and run.err.endswith("the master is back\n")


def test_following_in_json_gives_each_change_once_on_a_line(ctl: Ctl, peer: Peer):
    running = a_job(node="a")
    peer.on(JOB, gives(running)).on(EVENTS, events(running, running, cut=True), events(running, DONE))
    run = ctl("status", 42, "--wait", "--format", "json")
    assert [json.loads(line)["state"] for line in run.out.splitlines()] == ["running", "completed"]


def test_following_survives_a_restart_of_the_master(socket: Path, environment: dict[str, str]):
    with Peer(socket).on(JOB, gives(a_job())).on(EVENTS, events(a_job(node="a"), cut=True)):
        following = _following(environment, "status", "42", "--follow")
        assert following.stdout is not None
        assert following.stdout.readline() == "job 42 is running on a\n"
    with Peer(socket).on(EVENTS, events(a_job(node="a", phase="verifying"), DONE)), following:
        out, err = following.communicate(timeout=20)
    assert out == "job 42 is running on a (verifying)\njob 42 completed: media:out.mp4\n"
    assert err.splitlines()[-1] == "the master is back"
    assert following.returncode == 0


@pytest.mark.parametrize(
    "words", [("status", "42", "--follow"), ("logs", "42", "--follow"), ("submit", "--scenario", "x", "--wait")]
)
def test_following_also_begins_while_the_master_restarts(
    socket: Path, environment: dict[str, str], words: tuple[str, ...]
):
    if words[0] == "submit":  # it is answered, and then the master goes
        answer = Submitted(items=(SubmittedJob(job=42, uuid="u", state="queued", input="m:in", output="m:out"),))
        with Peer(socket).on("POST /v1/jobs", gives(answer, 201)).on(EVENTS, hangs_up):
            following = _following(environment, *words)
            assert following.stdout is not None and following.stdout.readline() == "job 42 queued  m:in -> m:out\n"
    else:
        following = _following(environment, *words)
    assert following.stderr is not None
    away = following.stderr.readline()
    with Peer(socket).on(JOB, gives(DONE)).on(EVENTS, events(DONE)).on(LOGS, streams([b"at last\n"])), following:
        out, err = following.communicate(timeout=20)
    assert away.startswith("the master is away, asking again for ") and err == "the master is back\n"
    assert following.returncode == 0 and out in ("at last\n", "job 42 completed: media:out.mp4\n")


@pytest.mark.parametrize("command", ["status", "logs"])
def test_who_begins_to_follow_waits_for_a_master_no_longer_than_timeout_says(ctl: Ctl, command: str):
    run = ctl(command, 42, "--follow", "--timeout", "0.5s")
    assert run.code == 5 and run.out == ""
    away, what, hint = run.err.splitlines()
    assert "asking again for 0.5 s" in away and "away for 0.5 s" in what and "--master" in hint


def test_a_master_that_stays_away_is_given_up_after_a_bounded_time():
    said: list[str] = []
    clock = Clock()
    patience = Patience(said.append, limit_s=60, sleep=clock.sleep, clock=clock.now)
    with pytest.raises(NoMaster, match="away for 60 s") as given_up:
        for _ in range(1000):
            patience.failed(NoMaster("no master answers"))
    assert 60 <= clock.now_s < 65 and len(said) == 1
    assert "go on without it" in given_up.value.hint


def test_what_will_not_pass_is_not_waited_for():
    patience = Patience(lambda text: None, sleep=lambda pause_s: pytest.fail("waited"))
    with pytest.raises(FarmError, match="no such job"):
        patience.failed(FarmError("no such job"))


def test_following_a_job_that_is_not_there_ends_at_once_with_3(ctl: Ctl, peer: Peer):
    peer.on(JOB, problem(404, "there is no job 42"))
    assert ctl("status", 42, "--follow").code == 3
    assert ctl("logs", 42, "--follow").code == 3


def test_lines_about_one_state_come_seconds_apart_and_a_new_state_at_once():
    clock, out = Clock(), io.StringIO()
    lines = Lines(Context(Master(Address.parse("/none")), out, io.StringIO(), json=False), clock.now)
    for second in range(12):
        clock.now_s = float(second)
        lines.show(b"", a_job(node="a", percent=float(second)))
    lines.show(b"", a_job(node="a", percent=12.0, phase="verifying"))
    shown = [line.split(", ")[-1] for line in out.getvalue().splitlines()]
    assert EVERY_S == 5.0 and shown == ["0 %", "5 %", "10 %", "12 %"]


def test_ctrl_c_leaves_the_job_running_and_says_so(peer: Peer, environment: dict[str, str]):
    def goes_on(handler: Handler) -> None:
        handler.start_chunks()
        handler.chunk(b"%s\n" % msgspec.json.encode(a_job(node="a")))
        handler.connection.recv(1)  # until the client leaves

    peer.on(JOB, gives(a_job(node="a", attempt=1))).on(EVENTS, goes_on)
    peer.on(LOGS, lambda handler: (handler.start_chunks(), handler.chunk(b"line\n"), handler.connection.recv(1)))
    for words in (("status", "42", "--wait"), ("logs", "42", "--follow")):
        with _following(environment, *words) as following:
            assert following.stdout is not None
            following.stdout.readline()
            following.send_signal(signal.SIGINT)
            _, err = following.communicate(timeout=20)
        assert following.returncode == 130
        assert err == "job 42 goes on; `ffrtmpctl jobs cancel 42` ends it\n"
    assert {asked.method for asked in peer.asked} == {"GET"}


@pytest.mark.parametrize("state", [*TERMINAL_STATES, "queued", "assigned", "running", "paused", "resuming", "retrying"])
def test_every_state_has_a_sentence(state: str):
    assert headline(a_job(state=state, node="a", phase="encoding")).startswith("job 42 ")


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_a_log_is_shown_byte_for_byte(peer: Peer, environment: dict[str, str]):
    peer.on(LOGS, streams([b"frame= 1\r", b"\xff\xfe no text\n", b"\x1b[31mred\n"]))
    with _following(environment, "logs", "42", "--attempt", "2", "--tail", "3") as showing:
        assert showing.stdout is not None
        assert showing.stdout.buffer.read() == b"frame= 1\r\xff\xfe no text\n\x1b[31mred\n"
    assert peer.asked[-1].query == {"attempt": "2", "tail": "3"}


def test_a_job_without_a_log_is_told_why(ctl: Ctl, peer: Peer):
    peer.on(LOGS, streams([])).on(JOB, gives(a_job(state="queued")))
    run = ctl("logs", 42)
    assert (run.code, run.out, run.err) == (0, "", "there is no log yet: job 42 is queued (default, medium)\n")


def test_following_a_log_goes_on_at_the_byte_where_it_was(ctl: Ctl, peer: Peer):
    peer.on(JOB, gives(a_job(attempt=1)), gives(a_job(attempt=1)), gives(a_job(attempt=1)), gives(DONE))
    peer.on(
        LOGS,
        streams([b"three\n", b"fo"], cut=True, Log_Offset="8"),
        problem(503, "starting"),
        streams([b"ur\n"], cut=False, Log_Offset="16"),
        streams([b"five\n"], Log_Offset="19"),
        streams([], Log_Offset="24"),
    )
    run = ctl("logs", 42, "--follow", "--tail", 2)
    assert (run.code, run.out) == (0, "three\nfour\nfive\n")
    asked = [each.query for each in peer.asked if each.path.endswith("/logs")]
    assert asked[0] == {"attempt": "1", "follow": "1", "tail": "2"}
    assert [each.get("offset") for each in asked] == [None, "16", "16", "19", *["24"] * (len(asked) - 4)]
    assert all("tail" not in each for each in asked[1:])


def test_a_master_that_stops_in_order_does_not_cut_the_end_of_a_followed_log(ctl: Ctl, peer: Peer):
    peer.on(JOB, gives(a_job(attempt=1)), gives(DONE))
    peer.on(LOGS, streams([b"first\n"], Log_Offset="0"), streams([b"last\n"], Log_Offset="6"))
    assert ctl("logs", 42, "--follow").out == "first\nlast\n"
    assert [each.query.get("offset") for each in peer.asked if each.path.endswith("/logs")] == [None, "6"]


def test_following_a_log_goes_on_with_the_next_attempt_from_its_start(ctl: Ctl, peer: Peer):
    peer.on(JOB, gives(a_job(attempt=1)), gives(a_job(attempt=2, node="b")), gives(a_job(state="completed", attempt=2)))
    first, second, nothing = b"first try\n", b"second try\n", streams([])
    peer.on(LOGS, streams([first], Log_Offset="0"), nothing, streams([second], Log_Offset="0"), nothing)
    run = ctl("logs", 42, "--follow")
    assert (run.out, run.err) == ("first try\nsecond try\n", "attempt 2 on b\n")
    asked = [(each.query["attempt"], each.query.get("offset")) for each in peer.asked if each.path.endswith("/logs")]
    assert asked == [("1", None), ("1", "10"), ("2", None), ("2", "11")]


def test_a_log_in_json_is_one_object_a_line_and_tells_attempts_and_cuts(ctl: Ctl, peer: Peer):
    text = [b"one \xff\x1b\n\nt", b"wo", log_cut(4096)[:9], log_cut(4096)[9:], b"three\n", log_cut(7), b"no end"]
    peer.on(LOGS, streams(text, Log_Attempt="3"))
    run = ctl("logs", 42, "--json")
    assert run.err == "" and [json.loads(line) for line in run.out.splitlines()] == [
        {"attempt": 3, "text": "one \ufffd\x1b"},
        {"attempt": 3, "text": ""},
        {"attempt": 3, "text": "two"},
        {"attempt": 3, "cut_bytes": 4096},
        {"attempt": 3, "text": "three"},
        {"attempt": 3, "cut_bytes": 7},
        {"attempt": 3, "text": "no end"},
    ]


def test_a_followed_log_in_json_says_which_attempt_each_line_is_of(ctl: Ctl, peer: Peer):
    peer.on(JOB, gives(a_job(attempt=1)), gives(a_job(attempt=2, node="b")), gives(a_job(state="completed", attempt=2)))
    parts = streams([b"first"], Log_Offset="0"), streams([b" try"]), streams([b"second\n"], Log_Offset="0"), streams([])
    peer.on(LOGS, *parts)
    told = [json.loads(line) for line in ctl("logs", 42, "--follow", "--format", "json").out.splitlines()]
    assert told == [{"attempt": 1, "text": "first try"}, {"attempt": 2, "text": "second"}]


def test_following_one_attempt_ends_with_it(ctl: Ctl, peer: Peer):
    peer.on(JOB, gives(a_job(attempt=2)))
    peer.on(LOGS, streams([b"first try\n"]))
    assert ctl("logs", 42, "--follow", "--attempt", 1).out == "first try\n"


def test_following_a_job_that_waits_begins_with_its_first_attempt(ctl: Ctl, peer: Peer):
    peer.on(JOB, gives(a_job(state="queued")), gives(DONE))
    peer.on(EVENTS, events(a_job(state="queued"), a_job(attempt=1)))
    peer.on(LOGS, streams([b"at last\n"]), streams([]))
    assert ctl("logs", 42, "--follow").out == "at last\n"


def test_following_a_job_that_never_started_ends_with_it(ctl: Ctl, peer: Peer):
    peer.on(JOB, gives(a_job(state="queued"))).on(EVENTS, events(a_job(state="canceled")))
    run = ctl("logs", 42, "--follow")
    assert (run.code, run.out) == (0, "")


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(1, 10**9)), max_size=8), st.data())
def test_the_place_in_a_log_does_not_depend_on_how_it_arrives(parts: list[bytes | int], data: st.DataObject):
    """A part is text, or a number of bytes that were cut out."""
    text = b"".join(part if isinstance(part, bytes) else log_cut(part) for part in parts)
    place = Place(100)
    rest = text
    while rest:
        length = data.draw(st.integers(1, len(rest)))
        place.passed(rest[:length])
        rest = rest[length:]
    assert place.offset_bytes == 100 + sum(len(part) if isinstance(part, bytes) else part for part in parts)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.now_s += pause_s


def _following(environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_bound_of_patience_is_a_minute():
    assert patience_module.LIMIT_S == 60.0
