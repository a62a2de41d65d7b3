"""What goes wrong is told in one line with a hint, and by the exit code."""

from __future__ import annotations

import json
import os
import socket as sockets
import subprocess
import traceback
from pathlib import Path

import msgspec
import pytest
from ctl.conftest import PROGRAM, Ctl, a_job
from ctl.peer import Peer, babbles, breaks_off, gives, hangs_up, problem

from ffrtmp.api import Done, Page
from ffrtmp.errors import Exit, FarmError
from ffrtmpctl.address import Address
from ffrtmpctl.client import Master


def told(err: str) -> tuple[str, str]:
    """The two lines of an error."""
    lines = err.splitlines()
    assert len(lines) == 2, err
    assert lines[0].startswith("ffrtmpctl: ") and lines[1].startswith("hint: "), err
    return lines[0].removeprefix("ffrtmpctl: "), lines[1].removeprefix("hint: ")


def test_without_a_master_the_exit_code_is_5_and_the_hint_says_how_to_start_one(ctl: Ctl, socket: Path):
    run = ctl("jobs", "list")
    what, hint = told(run.err)
    assert (run.code, run.out) == (5, "")
    assert str(socket) in what and hint.startswith("start ffrtmp-master (systemctl start ffrtmp-master where it is ")


def test_a_socket_that_a_dead_master_left_behind_is_no_master(ctl: Ctl, socket: Path):
    with sockets.socket(sockets.AF_UNIX) as left:
        left.bind(str(socket))
    assert ctl("jobs", "list").code == 5


def test_who_may_not_use_the_socket_is_told_which_group_may(socket: Path, peer: Peer):
    socket.chmod(0)
    socket.parent.chmod(0o711)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # as somebody else: root may open everything
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            Master(Address.parse(str(socket))).call("GET", "/v1/jobs")
        except FarmError as error:
            os.write(write, f"{int(error.code)} {error.what} {error.hint}".encode())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    assert said.startswith("4 you may not talk to the master") and "group ffrtmp" in said


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (401, 4), (403, 4), (404, 3), (409, 4), (422, 4), (429, 4), (500, 1), (503, 4)]
)
def test_what_the_master_refuses_is_told_by_the_exit_code(ctl: Ctl, peer: Peer, status: int, code: int):
    peer.on("GET /v1/jobs/7", problem(status, "job 7 is not for you", hint="ask for another"))
    run = ctl("jobs", "status", 7)
    assert (run.code, told(run.err)) == (code, ("job 7 is not for you", "ask for another"))


def test_several_meanings_are_listed_in_the_one_line(ctl: Ctl, peer: Peer):
    peer.on("GET /v1/jobs/7", problem(409, "the path has two meanings", "write one of them", ("a:x", "b:x")))
    assert told(ctl("jobs", "status", 7).err)[0] == "the path has two meanings: a:x, b:x"


def test_an_error_page_that_is_no_problem_document_is_still_one_line(ctl: Ctl, peer: Peer):
    peer.on("GET /v1/queues", lambda handler: handler.send(502, b"<html>\n<h1>Bad\nGateway</h1>", "text/html"))
    run = ctl("queues", "list")
    assert (run.code, run.err) == (5, "ffrtmpctl: the master answered 502 Bad Gateway\n")


def test_what_is_no_master_is_called_so(ctl: Ctl, peer: Peer):
    run = ctl("--master", peer.on("GET /v1/jobs", babbles).path, "jobs", "list")
    assert run.code == 1 and "no master of ffrtmp" in told(run.err)[0]


@pytest.mark.parametrize("body", [b"", b"not JSON", b'{"items": 7}', b"[]", b'{"items": [{"job": "x"}]}', b"\xff\xfe"])
def test_an_answer_that_makes_no_sense_is_one_line_and_no_trace(ctl: Ctl, peer: Peer, body: bytes):
    run = ctl("jobs", "list", "--master", peer.on("GET /v1/jobs", gives(body)).path)
    what, hint = told(run.err)
    assert run.code == 1 and "cannot be understood" in what and "ffrtmpctl version" in hint


def test_a_master_that_says_nothing_is_waited_for_no_longer_than_asked(ctl: Ctl, peer: Peer, socket: Path):
    with sockets.socket(sockets.AF_UNIX) as silent:
        path = socket.with_name("silent.sock")
        silent.bind(str(path))
        silent.listen()
        run = ctl("--master", path, "--timeout", "200ms", "jobs", "list")
    assert run.code == 5 and "did not answer within 0.2 s" in told(run.err)[0]


def test_a_question_is_asked_again_when_the_connection_breaks(ctl: Ctl, peer: Peer):
    peer.on("GET /v1/jobs", hangs_up, breaks_off, gives(Page(items=(a_job(),))))
    run = ctl("jobs", "list")
    assert (run.code, run.err) == (0, "") and "720p-h264" in run.out
    assert len(peer.asked) == 3


def test_an_order_that_may_have_been_taken_is_not_given_twice(ctl: Ctl, peer: Peer):
    peer.on("DELETE /v1/nodes/a", hangs_up)
    run = ctl("nodes", "remove", "a", "--yes")
    what, hint = told(run.err)
    assert run.code == 5 and "broke" in what and "may have done" in hint
    assert len(peer.asked) == 1


def test_debug_shows_the_trace_and_nothing_else_does(ctl: Ctl):
    assert "Traceback" not in ctl("jobs", "list").err
    for words in (("--debug", "jobs", "list"), ("jobs", "list", "--debug")):
        shown = ctl(*words)
        assert "Traceback" in shown.err and "hint: " in shown.err and shown.code == 5


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("jobs",),
        ("jbos", "list"),
        ("jobs", "list", "--queue", "fast"),
        ("jobs", "list", "--stat", "open"),  # no guessing of shortened flags
        ("jobs", "status", "forty-two"),
        ("jobs", "status", "0"),
        ("jobs", "status", ""),
        ("jobs", "submit", "--memory", "lots"),
        ("jobs", "submit", "--scenario", "x", "--generate", "big"),
        ("jobs", "submit", "--scenario", "x", "--nice", "20"),
        ("jobs", "submit", "--scenario", "x", "--output", "json"),
        ("jobs", "submit"),
        ("jobs", "run", "--input", "a:b", "--output", "a:c"),
        ("jobs", "run", "--input", "a:b", "-c:v", "copy"),
        ("jobs", "cancel"),
        ("jobs", "cancel", "1", "--queue", "batch"),
        ("jobs", "update", "1"),
        ("nodes", "label", "a"),
        ("--master", "ftp://somewhere", "jobs", "list"),
        ("--master", "http://user:secret@somewhere", "jobs", "list"),
        ("--timeout", "soon", "jobs", "list"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint_and_exit_code_2(ctl: Ctl, peer: Peer, words: tuple[str, ...]):
    run = ctl(*words)
    what, _ = told(run.err)
    assert (run.code, run.out, peer.asked) == (2, "", [])
    assert "secret" not in what.replace("a secret does not", "")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("jbos list", "did you mean jobs? see `ffrtmpctl --help`"),
        ("jobs lst", "did you mean list? see `ffrtmpctl jobs --help`"),
        ("jobs submit --scenrio x", "did you mean --scenario? see `ffrtmpctl jobs submit --help`"),
        ("submit --inptu=x", "did you mean --input? see `ffrtmpctl submit --help`"),
        ("jobs list --queue defualt", "did you mean default? see `ffrtmpctl jobs list --help`"),
        ("jobs status 1 2", "see `ffrtmpctl jobs status --help`"),
        ("jobs submit --memory lots", "see `ffrtmpctl jobs submit --help`"),
        ("jobs status", "see `ffrtmpctl jobs status --help`"),
        ("nodes list --output x.json", "see `ffrtmpctl nodes list --help`"),
    ],
)
def test_wrong_usage_leads_to_the_commands_own_help_and_to_the_word_that_was_meant(
    ctl: Ctl, peer: Peer, words: str, hint: str
):
    run = ctl(*words.split())
    assert run.code == 2 and told(run.err)[1].endswith(hint), run.err


def test_with_json_an_error_is_a_problem_document_on_one_line_with_the_same_exit_code(ctl: Ctl, peer: Peer):
    peer.on("GET /v1/jobs/7", problem(409, "two\x7f\u202e", "write one of them", ("a:x", "b:x")))
    run = ctl("jobs", "status", 7, "--json")
    (line,) = run.err.splitlines()
    assert (run.code, run.out, line.isascii() and line.isprintable()) == (4, "", True)
    known = {"title": "refused", "status": 409, "detail": "two\x7f\u202e", "hint": "write one of them"}
    assert json.loads(line) == {**known, "choices": ["a:x", "b:x"]}
    for words, code, status in (
        (("jobs", "status", "--format", "json"), 2, 400),
        (("--format=json", "jobs", "list", "--stat", "x"), 2, 400),
        (("jobs", "list", "--json", "--master", "/nowhere"), 5, 503),
        (("jobs", "list", "--output", "json", "--master", "/nowhere"), 5, 503),
        (("nodes", "describe", "--output=json"), 2, 400),
    ):
        run = ctl(*words)
        assert run.code == code and json.loads(run.err)["status"] == status and json.loads(run.err)["hint"]
    peer.on("POST /v1/jobs/1/pause", problem(409, "job 1 has ended")).on("POST /v1/jobs/2/pause", gives(Done(job=2)))
    run = ctl("jobs", "pause", 1, 2, "--json")
    assert run.code == 4 and json.loads(run.err)["detail"] == "job 1 has ended" and json.loads(run.out) == {"job": 2}


def test_one_of_several_jobs_that_is_refused_does_not_keep_the_others_from_being_paused(ctl: Ctl, peer: Peer):
    peer.on("POST /v1/jobs/1/pause", gives(Done(state="paused", job=1), 202))
    peer.on("POST /v1/jobs/2/pause", problem(409, "job 2 has ended"))
    peer.on("POST /v1/jobs/3/pause", gives(Done(state="paused", job=3), 202))
    run = ctl("jobs", "pause", 1, 2, 3)
    assert (run.code, run.out) == (4, "job 1: paused\njob 3: paused\n")
    assert run.err == "ffrtmpctl: job 2 has ended\n"


def test_the_words_of_a_newer_master_are_shown_as_they_are(ctl: Ctl, peer: Peer):
    view = json.loads(msgspec.json.encode(a_job()))
    view |= {"state": "hibernating", "queue": "lunar", "mood": {"a": 1}}
    peer.on("GET /v1/jobs", gives({"items": [view]})).on("GET /v1/jobs/42", gives(view))
    assert "hibernating  lunar" in ctl("jobs", "list").out
    assert ctl("jobs", "status", 42).out.startswith("job 42 is hibernating")
    assert json.loads(ctl("jobs", "list", "--json").out)["items"][0]["mood"] == {"a": 1}


def test_text_of_others_cannot_steer_the_terminal(ctl: Ctl, peer: Peer):
    evil = "out\x1b[2J\x1b]0;owned\x07\nforged line\u202e.mp4"
    peer.on("GET /v1/jobs", gives(Page(items=(a_job(output=evil),)))).on("GET /v1/jobs/42", gives(a_job(output=evil)))
    peer.on("GET /v1/jobs/43", problem(404, f"no {evil}"))
    for run in (ctl("jobs", "list"), ctl("jobs", "status", 42), ctl("jobs", "status", 43)):
        assert not any(char in run.out + run.err for char in "\x1b\x07\u202e")
        assert "\nforged" not in run.out + run.err


def test_a_reader_that_has_enough_ends_it_quietly(peer: Peer, environment: dict[str, str]):
    peer.on("GET /v1/jobs", gives(Page(items=tuple(a_job(job=number) for number in range(1, 4000)))))
    with subprocess.Popen(
        [PROGRAM, "jobs", "list"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listing:
        assert listing.stdout and listing.stderr
        listing.stdout.readline()
        listing.stdout.close()
        assert listing.stderr.read() == b""
        assert listing.wait(10) == 141


def test_an_answer_that_cannot_be_written_is_an_error_in_one_line(peer: Peer, environment: dict[str, str]):
    peer.on("GET /v1/jobs", gives(Page(items=(a_job(),))))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "jobs", "list"], check=False, env=environment, stdout=full, stderr=subprocess.PIPE, timeout=20
        )
    assert (done.returncode, done.stderr) == (Exit.FAILED, b"ffrtmpctl: No space left on device\n")
