"""Following a job: its log as it grows, and its changes, until it ends."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest
from api.desk import Desktop, served

from ffrtmp.api import log_cut
from ffrtmp.farm.job import Failure, Reason
from ffrtmp.spec import Progress
from ffrtmp_master.api.call import Bounds

TRANSIENT = Failure(Reason.NETWORK_ERROR, True, "connection reset", "")
FINAL = Failure(Reason.INPUT_ERROR, False, "Invalid data found", "")
DEADLINE_S = 10.0


@pytest.fixture
def master() -> Iterator[Desktop]:
    with served() as desktop:
        desktop.submit()
        desktop.do(lambda: desktop.desk.accepted(1))
        yield desktop


def log(master: Desktop, data: bytes, offset: int = 0) -> None:
    master.do(lambda: master.desk.log(1, data, offset))


def test_the_log_of_a_job_is_given_whole_by_tail_and_by_offset(master: Desktop) -> None:
    log(master, b"one\ntwo\nthree\n")
    said = master.get("/v1/jobs/1/logs")
    assert (said.body, said.headers["Log-Attempt"], said.headers["Log-Offset"]) == (b"one\ntwo\nthree\n", "1", "0")
    said = master.get("/v1/jobs/1/logs?tail=2")
    assert (said.body, said.headers["Log-Offset"]) == (b"two\nthree\n", "4")
    assert master.get("/v1/jobs/1/logs?offset=8&attempt=1").body == b"three\n"
    assert master.get("/v1/jobs/1/logs?offset=99").body == b""
    assert master.get("/v1/jobs/1/logs?attempt=2").status == 404
    assert master.get("/v1/jobs/1/logs?tail=1&offset=1").status == 400


def test_what_was_cut_out_of_a_log_is_marked_and_counts_for_the_offset(master: Desktop) -> None:
    log(master, b"head\n")
    log(master, b"tail\n", 1005)
    assert master.get("/v1/jobs/1/logs").body == b"head\n" + log_cut(1000) + b"tail\n"
    assert master.get("/v1/jobs/1/logs?offset=1005").body == b"tail\n"


def test_a_secret_in_a_log_is_starred_wherever_the_reader_begins(master: Desktop) -> None:
    line = b"Input #0 from 'https://anna:geheim@example.org/a.mp4'\n"
    log(master, b"start\n" + line)
    whole = master.get("/v1/jobs/1/logs").body
    assert len(whole) == len(b"start\n" + line)
    for offset in range(len(whole)):
        said = master.get(f"/v1/jobs/1/logs?offset={offset}").body
        assert said == whole[offset:]
        assert b"geheim" not in said


def test_a_followed_log_brings_each_line_as_it_comes_and_ends_with_the_job(master: Desktop) -> None:
    log(master, b"one\n")
    with master.stream("/v1/jobs/1/logs?follow=1") as stream:
        assert stream.readline() == b"one\n"
        log(master, b"two\n", 4)
        assert stream.readline() == b"two\n"
        master.do(lambda: master.desk.ended(1, failure=FINAL))
        log(master, b"three, after the end was heard", 8)
        assert stream.read() == b"three, after the end was heard"


def test_a_followed_log_ends_at_once_when_the_agent_has_said_that_it_is_whole() -> None:
    with served(log_grace_s=60.0) as master:
        master.submit()
        master.do(lambda: master.desk.accepted(1))
        with master.stream("/v1/jobs/1/logs?follow=1") as stream:
            log(master, b"all\n")
            master.do(lambda: master.desk.ended(1, failure=FINAL))
            master.do(lambda: master.desk.live.log_ended(1, 1))
            master.do(lambda: master.desk.watchers.wake(1))
            started_s = time.monotonic()
            assert stream.read() == b"all\n"
            assert time.monotonic() - started_s < DEADLINE_S


def test_a_follower_that_comes_back_with_its_offset_reads_nothing_twice(master: Desktop) -> None:
    log(master, b"one\ntwo\n")
    with master.stream("/v1/jobs/1/logs?follow=1") as stream:
        read = stream.readline()
    with master.stream(f"/v1/jobs/1/logs?follow=1&attempt=1&offset={len(read)}") as stream:
        assert stream.readline() == b"two\n"


def test_a_followed_log_ends_where_the_job_goes_on_in_another_attempt(master: Desktop) -> None:
    log(master, b"first\n")
    with master.stream("/v1/jobs/1/logs?follow=1") as stream:
        assert stream.getheader("Log-Attempt") == "1"
        master.do(lambda: master.desk.ended(1, failure=TRANSIENT))

        def later() -> None:
            master.desk.now_s += 600
            master.desk.turn()
            master.desk.turn()

        master.do(later)
        assert stream.read() == b"first\n"
    assert master.get("/v1/jobs/1").json["attempt"] == 2
    assert master.get("/v1/jobs/1/logs").headers["Log-Attempt"] == "2"


def test_a_follower_of_a_job_that_has_not_started_waits_for_its_first_attempt(master: Desktop) -> None:
    master.submit(labels=["ssd"])
    with master.raw() as connection:
        connection.sendall(b"GET /v1/jobs/2/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert master.call("PUT", "/v1/nodes/a/labels", {"labels": ["ssd"]}).status == 200
        master.do(master.desk.turn)
        assert b"Log-Attempt: 1" in until(connection, b"\r\n\r\n")


def test_the_events_of_a_job_are_its_view_at_each_change_until_it_ends(master: Desktop) -> None:
    with master.stream("/v1/jobs/1/events") as stream:
        assert json.loads(stream.readline())["state"] == "running"
        master.do(lambda: master.desk.progress(1, Progress(out_time_s=30, total_s=60, speed=2)))
        assert json.loads(stream.readline())["percent"] == 50.0
        master.call("POST", "/v1/jobs/1/cancel")
        master.do(lambda: master.desk.ended(1))
        views = [json.loads(line)["state"] for line in stream]
        assert views[-1] == "canceled"


def test_the_events_of_a_job_that_has_ended_are_its_last_view(master: Desktop) -> None:
    master.do(lambda: master.desk.ended(1, failure=FINAL))
    with master.stream("/v1/jobs/1/events") as stream:
        assert [json.loads(line)["state"] for line in stream] == ["failed"]


def test_p12_followers_are_bounded_and_their_place_is_free_when_they_leave() -> None:
    with served(followers=2) as master:
        master.submit()
        with master.stream("/v1/jobs/1/events") as one, master.stream("/v1/jobs/1/events") as two:
            assert one.readline()
            assert two.readline()
            refused = master.get("/v1/jobs/1/events")
            assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        ends_s = time.monotonic() + DEADLINE_S
        while master.do(lambda: master.desk.watchers.full):
            assert time.monotonic() < ends_s, "a follower that left still holds its place"
            time.sleep(0.02)
        with master.stream("/v1/jobs/1/events") as three:
            assert three.readline()


def test_p12_a_follower_that_stops_reading_is_cut_off() -> None:
    with served(bounds=Bounds(stalled_s=0.2)) as master:
        master.submit()
        master.do(lambda: master.desk.accepted(1))
        log(master, b"x" * 79 + b"\n")
        for part in range(1, 100):
            log(master, (b"x" * 79 + b"\n") * 800, 80 + (part - 1) * 64000)
        with master.raw() as connection:
            connection.sendall(b"GET /v1/jobs/1/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            ends_s = time.monotonic() + DEADLINE_S
            while not master.do(lambda: master.desk.watchers._count):
                assert time.monotonic() < ends_s
            while master.do(lambda: master.desk.watchers._count):
                assert time.monotonic() < ends_s, "the follower holds its place"
                time.sleep(0.05)
        assert master.get("/v1/live").status == 200


def test_followers_leave_at_once_when_the_master_stops() -> None:
    with served() as master:
        master.submit()
        stream = master.stream("/v1/jobs/1/events")
        followed = stream.__enter__()
        assert followed.readline()
        started_s = time.monotonic()
    assert time.monotonic() - started_s < 5.0
    stream.__exit__(None, None, None)


def until(connection: socket.socket, mark: bytes) -> bytes:
    read = b""
    while mark not in read:
        part = connection.recv(65536)
        assert part, f"the connection ended after {read!r}"
        read += part
    return read
