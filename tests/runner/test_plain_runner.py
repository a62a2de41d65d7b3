"""The plain runner: processes that outlive the agent, are found again, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runner.yard import LONG_ENCODE, Yard, log, name_of, python, state_of, until

from ffrtmp.spec import Limits
from ffrtmp_agent import processes
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.plain import PlainRunner

STARTER = """
import os, signal, sys
from pathlib import Path
from ffrtmp.spec import Limits
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.plain import PlainRunner
runner = PlainRunner()
for path in sys.argv[1:]:
    runner.start(AttemptDir(Path(path)), Limits())
os.kill(os.getpid(), signal.SIGKILL)
"""


def start_and_kill_the_agent(*attempts: AttemptDir) -> None:
    """Start attempts from another process that is killed at once, as an agent would be."""
    agent = subprocess.run([sys.executable, "-c", STARTER, *(str(one.path) for one in attempts)], check=False)
    assert agent.returncode == -signal.SIGKILL


def test_pause_and_resume_reach_ffmpeg_within_a_second(yard: Yard):
    attempt = yard.start(LONG_ENCODE)
    engine = yard.engine(attempt)
    until(lambda: b"out_time=" in attempt.progress_tail(), "the engine works")
    assert name_of(engine.pid) == "ffmpeg"
    yard.runner.pause(attempt.name)
    until(lambda: state_of(engine.pid) == "T", "ffmpeg stands still", 1.0)
    assert all(state_of(pid) == "T" for pid in yard.processes(attempt))
    assert yard.stage(attempt) == "paused"
    before = attempt.progress_tail()
    yard.runner.resume(attempt.name)
    until(lambda: state_of(engine.pid) in "SR", "ffmpeg goes on", 1.0)
    assert yard.stage(attempt) == "running"
    until(lambda: attempt.progress_tail() != before, "progress")


def test_p5_a_paused_attempt_can_be_discarded(yard: Yard):
    attempt = yard.start(LONG_ENCODE)
    yard.engine(attempt)
    yard.runner.pause(attempt.name)
    yard.runner.discard(attempt.name)
    yard.ended(attempt, 4.0)
    assert yard.processes(attempt) == []


def test_a_paused_live_attempt_can_be_stopped_in_order(yard: Yard):
    attempt = yard.start(LONG_ENCODE, live=True)
    until(lambda: b"out_time=" in attempt.progress_tail(), "the engine works")
    yard.runner.pause(attempt.name)
    yard.runner.stop(attempt.name)
    yard.ended(attempt, 4.0)
    outcome = attempt.outcome()
    assert outcome and outcome.how == "completed"


def test_p5_a_guard_that_does_not_listen_is_killed_after_three_seconds_with_all_it_has(yard: Yard):
    attempt = yard.start(LONG_ENCODE)
    yard.engine(attempt)
    guard = attempt.guard_pid()
    assert guard
    now_s = [0.0]
    runner = PlainRunner(clock=lambda: now_s[0])
    assert runner.adopt([attempt]) == {attempt.name}
    (attempt.path / "stop").mkdir()  # a job's trick: the note cannot be written, so the guard takes it for a shutdown
    runner.pause(attempt.name)
    os.kill(guard.pid, signal.SIGSTOP)
    runner.discard(attempt.name)
    os.kill(guard.pid, signal.SIGSTOP)
    now_s[0] = 3.1
    until(lambda: runner.poll()[0].stage == "ended", "killed", 3.0)
    assert yard.processes(attempt) == []
    runner.close()


def test_p11_a_job_survives_the_kill_of_its_agent_and_is_found_by_the_next(yard: Yard):
    attempt = yard.attempt(LONG_ENCODE)
    start_and_kill_the_agent(attempt)
    engine = yard.engine(attempt)
    assert yard.runner.adopt(AttemptDir.scan(yard.folder)) == {attempt.name}
    assert yard.stage(attempt) == "running"
    before = attempt.progress_tail()
    until(lambda: attempt.progress_tail() != before, "progress goes on")
    yard.runner.pause(attempt.name)
    assert state_of(engine.pid) == "T"
    yard.runner.resume(attempt.name)
    yard.runner.discard(attempt.name)
    yard.ended(attempt, 4.0)
    outcome = attempt.outcome()
    assert outcome and outcome.how == "stopped"


def test_p11_a_paused_job_is_still_paused_for_the_next_agent(yard: Yard):
    attempt = yard.attempt(LONG_ENCODE)
    start_and_kill_the_agent(attempt)
    engine = yard.engine(attempt)
    first = PlainRunner()
    first.adopt([attempt])
    first.pause(attempt.name)
    first.close()
    yard.runner.adopt([attempt])
    until(lambda: (yard.stage(attempt), state_of(engine.pid)) == ("paused", "T"), "it to stand still")


def test_p11_an_end_that_no_agent_saw_is_in_the_directory(yard: Yard):
    attempt = yard.attempt("echo last words >&2; exit 4")
    start_and_kill_the_agent(attempt)
    until(attempt.outcome, "an outcome")
    until(lambda: not yard.processes(attempt), "no process")
    assert yard.runner.adopt([attempt]) == set()
    outcome = attempt.outcome()
    assert outcome and outcome.exit_status == 4
    assert log(attempt) == b"last words\n"


def test_p5_what_an_engine_leaves_behind_is_cleared_with_no_agent_to_do_it(yard: Yard):
    attempt = yard.attempt("setsid sleep 300 & sleep 301 & sleep 0.3; exit 0")
    start_and_kill_the_agent(attempt)
    until(attempt.outcome, "an outcome")
    until(lambda: not yard.processes(attempt), "no process", 2.0)


def test_a_killed_guard_takes_its_engine_with_it_and_leaves_no_outcome(yard: Yard):
    attempt = yard.start(LONG_ENCODE)
    engine = yard.engine(attempt)
    guard = attempt.guard_pid()
    assert guard
    os.kill(guard.pid, signal.SIGKILL)
    yard.ended(attempt, 3.0)
    assert state_of(engine.pid) in ("", "Z")
    assert yard.processes(attempt) == []
    assert attempt.outcome() is None


def test_leftovers_of_a_dead_guard_are_cleared_by_the_next_agent(yard: Yard):
    attempt = yard.attempt("setsid sleep 300 & exec sleep 301")
    start_and_kill_the_agent(attempt)
    until(lambda: len(yard.processes(attempt)) == 3, "guard, engine and a child in a session of its own")
    guard = attempt.guard_pid()
    assert guard
    os.kill(guard.pid, signal.SIGKILL)
    until(lambda: len(yard.processes(attempt)) == 2, "the guard is gone")
    assert yard.runner.adopt([attempt]) == {attempt.name}
    yard.ended(attempt, 3.0)
    assert yard.processes(attempt) == []


def test_a_process_number_that_is_used_again_is_not_taken_for_the_guard(yard: Yard):
    attempt = yard.attempt("exit 0")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        found = processes.find(stranger.pid)
        assert found
        claim = f"{stranger.pid} {found.start_ticks - 1} {processes.boot_id()}\n"
        (attempt.path / "guard.pid").write_text(claim)
        assert yard.runner.adopt([attempt]) == set()
        claim = f"{stranger.pid} {found.start_ticks} {processes.boot_id()}\n"  # even a perfect claim wants the mark
        (attempt.path / "guard.pid").write_text(claim)
        assert yard.runner.adopt([attempt]) == set()
        yard.runner.discard(attempt.name)
        yard.runner.poll()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_marked_session_whose_guard_claims_another_boot_is_cleared(yard: Yard):
    attempt = yard.attempt(LONG_ENCODE)
    start_and_kill_the_agent(attempt)
    yard.engine(attempt)
    claim = attempt.guard_pid()
    assert claim
    (attempt.path / "guard.pid").write_text(f"{claim.pid} {claim.start_ticks} another-boot\n")
    yard.runner.adopt([attempt])
    yard.ended(attempt, 3.0)
    assert yard.processes(attempt) == []


def test_many_attempts_run_side_by_side_and_leave_no_zombie(yard: Yard):
    attempts = [yard.start(f"echo {number} >&2; exit {number}", name=f"{number}.1") for number in range(1, 9)]
    assert len(yard.runner.filenos()) == 8
    for attempt in attempts:
        yard.ended(attempt)
    children = [one for one in processes.everyone().values() if one.parent == os.getpid() and one.state == "Z"]
    assert children == []
    assert yard.runner.filenos() == []
    assert [one.outcome().exit_status for one in attempts if one.outcome()] == list(range(1, 9))
    for attempt in attempts:
        yard.runner.forget(attempt.name)
    assert yard.runner.poll() == []


def test_a_memory_limit_reaches_the_engine(yard: Yard):
    greedy = python("x = bytearray(300 << 20)")
    assert yard.run(greedy, name="1.1", limits=Limits(memory_bytes=400 << 20)).how == "completed"
    assert yard.run(greedy, name="2.1", limits=Limits(memory_bytes=200 << 20)).how == "failed"
    assert b"MemoryError" in log(AttemptDir(yard.folder / "2.1"))


def test_ffmpeg_works_within_the_memory_that_a_scenario_gives_it(yard: Yard):
    encode = "exec ffmpeg -nostdin -f lavfi -i testsrc2=s=1280x720:d=0.5 -c:v libx264 -f null -"
    assert yard.run(encode, limits=Limits(memory_bytes=1 << 30)).how == "completed"


def test_a_cpu_limit_decides_how_many_cores_an_engine_sees(yard: Yard):
    outcome = yard.run("nproc >&2", limits=Limits(cpu_milli=800))
    assert outcome.how == "completed"
    assert log(AttemptDir(yard.folder / "1.1")) == b"1\n"


def test_attempts_are_spread_over_the_cores(yard: Yard):
    if len(os.sched_getaffinity(0)) > 1:
        both = [yard.start(LONG_ENCODE, name=f"{n}.1", limits=Limits(cpu_milli=1000)) for n in (1, 2)]
        engines = [yard.engine(one) for one in both]
        cores = [os.sched_getaffinity(one.pid) for one in engines]
        assert [len(one) for one in cores] == [1, 1]
        assert cores[0] != cores[1]


def test_starting_is_told_when_it_cannot_be_done(yard: Yard):
    attempt = yard.attempt(LONG_ENCODE)
    (yard.root / ".ffrtmp" / attempt.name).rmdir()
    yard.runner.start(attempt, Limits())
    yard.ended(attempt)
    assert attempt.outcome() is None
    assert "no folder" in attempt.complaint()


def test_orders_for_what_is_not_there_are_passed_over(yard: Yard):
    for order in (yard.runner.pause, yard.runner.resume, yard.runner.stop, yard.runner.discard, yard.runner.forget):
        order("9.9")
    assert yard.runner.poll() == []


def test_what_a_plain_process_cannot_enforce_is_said(yard: Yard):
    told = " ".join(yard.runner.unenforced)
    assert all(word in told for word in ("io_weight", "tasks", "scratch", "memory", "cpu"))


def test_a_guard_is_small(yard: Yard):
    attempt = yard.start(LONG_ENCODE)
    yard.engine(attempt)
    until(lambda: log(attempt), "the log is open")
    guard = attempt.guard_pid()
    assert guard
    status = Path(f"/proc/{guard.pid}/status").read_text().split()
    assert int(status[status.index("VmHWM:") + 1]) < 12 << 10


def test_the_engine_is_at_work_soon_after_the_start(yard: Yard):
    began = time.monotonic()
    attempt = yard.start("date +%s.%N > began; exit 0")
    yard.ended(attempt)
    assert time.monotonic() - began < 5.0
    assert Path(attempt.path / "began").read_text()
