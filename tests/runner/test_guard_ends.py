"""How attempts end, as their guard records it."""

from __future__ import annotations

import os
import signal
import sys
import time

from runner.yard import LONG_ENCODE, Yard, log, name_of, python, state_of, until

from ffrtmp.spec import Limits
from ffrtmp.wire import Timing

TALKER = "i=0; while :; do i=$((i+1)); echo out_time=$i; sleep 0.05; done"


def test_exit_status_signal_and_use_of_an_engine_are_recorded(yard: Yard):
    failed = yard.run("echo broken >&2; exit 3", name="1.1")
    assert (failed.how, failed.exit_status, failed.signal, failed.phase) == ("failed", 3, None, "encoding")
    killed = yard.run("kill -SEGV $$", name="2.1")
    assert (killed.how, killed.exit_status, killed.signal) == ("failed", None, signal.SIGSEGV)
    busy = yard.run(python("x = bytearray(60 << 20); [i * i for i in range(2_000_000)]"), name="3.1")
    assert busy.how == "completed"
    assert busy.cpu_s > 0.05
    assert busy.peak_memory_bytes > 60 << 20


def test_a_real_encode_is_verified_in_the_jobs_own_place(yard: Yard):
    staged = yard.root / ".ffrtmp/1.1/out.mp4"
    encode = f"exec ffmpeg -nostdin -nostats -progress pipe:1 -f lavfi -i testsrc2=s=64x64:d=1 {staged}"
    look = "import json, os; print(os.environ['FFRTMP_ATTEMPT'], json.load(open('state'))['encode_s'] > 0); "
    check = [sys.executable, "-c", look + "open('verified', 'w').write('{\"ok\": true}')"]
    outcome = yard.run(encode, verify=check)
    assert (outcome.how, outcome.phase, outcome.exit_status) == ("verified", "verifying", 0)
    assert staged.stat().st_size > 1000
    attempt = yard.folder / "1.1"
    assert b"out_time=" in (attempt / "progress").read_bytes()
    assert (attempt / "verified").read_text() == '{"ok": true}'
    assert b".1 True\n" in (attempt / "log").read_bytes()


def test_a_verification_that_breaks_is_no_success(yard: Yard):
    outcome = yard.run("exit 0", verify=["/bin/sh", "-c", "exit 9"])
    assert (outcome.how, outcome.phase, outcome.exit_status) == ("failed", "verifying", 9)


def test_an_attempt_is_ended_when_its_time_is_used_up(yard: Yard):
    outcome = yard.run(LONG_ENCODE, limits=Limits(time_s=1.0))
    assert (outcome.how, outcome.timed_out) == ("failed", True)
    assert 1.0 <= outcome.unpaused_s < 4.0


def test_a_pause_is_not_counted_against_the_time_limit(yard: Yard):
    attempt = yard.start(LONG_ENCODE, limits=Limits(time_s=1.0))
    yard.engine(attempt)
    yard.runner.pause(attempt.name)
    paused_s = time.monotonic()
    until(lambda: time.monotonic() - paused_s > 3.5, "the limit passes")
    assert attempt.outcome() is None
    yard.runner.resume(attempt.name)
    yard.ended(attempt)
    outcome = attempt.outcome()
    assert outcome and outcome.timed_out and 1.0 <= outcome.unpaused_s < 3.4


def test_a_file_job_whose_engine_gets_nowhere_is_ended(yard: Yard):
    outcome = yard.run("echo out_time=00:00:01; exec sleep 600", timing=Timing(stall_after_file_s=1.0))
    assert (outcome.how, outcome.stalled, outcome.timed_out) == ("failed", True, False)


def test_an_engine_that_repeats_the_same_out_time_has_stalled(yard: Yard):
    same = "while :; do echo out_time=00:00:01; sleep 0.05; done"
    assert yard.run(same, timing=Timing(stall_after_file_s=1.0)).stalled


def test_an_engine_that_reports_nothing_is_judged_by_what_it_writes(yard: Yard):
    grown = yard.root / ".ffrtmp/1.1/grown"
    writer = f"i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo more >> {grown}; sleep 0.05; done"
    assert yard.run(writer, timing=Timing(stall_after_file_s=1.0), grow=[str(grown)]).how == "completed"


def test_an_engine_that_reports_nothing_is_judged_by_its_cpu_time(yard: Yard):
    worker = python("import time\nend = time.monotonic() + 2.5\nwhile time.monotonic() < end: pass")
    assert yard.run(worker, timing=Timing(stall_after_file_s=1.0)).how == "completed"


def test_a_live_engine_is_started_again_inside_its_attempt_for_any_exit(yard: Yard):
    exits = "echo life >> lives; [ $(wc -l < lives) -ge 3 ] || exit $(($(wc -l < lives) % 2)); " + TALKER
    attempt = yard.start(exits, live=True)
    until(lambda: attempt.state().restarts == 2, "two restarts")
    assert attempt.outcome() is None
    yard.runner.stop(attempt.name)
    yard.ended(attempt)
    outcome = attempt.outcome()
    assert outcome and (outcome.how, outcome.restarts) == ("completed", 2)


def test_a_live_engine_that_stalls_is_started_again(yard: Yard):
    command = "echo life >> lives; echo out_time=1; [ $(wc -l < lives) -ge 2 ] || exec sleep 600; " + TALKER
    attempt = yard.start(command, live=True, timing=Timing(stall_after_s=1.0))
    until(lambda: attempt.state().restarts == 1, "a restart")
    until(lambda: (attempt.path / "lives").read_text().count("life") == 2, "a second engine")


def test_restarts_wait_longer_and_longer_and_are_forgotten_after_stable_progress(yard: Yard):
    count = "date +%s.%N >> lives; [ $(wc -l < lives) -ge 3 ] && last=40 || last=1; "
    attempt = yard.start(count + TALKER.replace("while :", "while [ $i -lt $last ]"), live=True, stable_after_s=1.0)
    lives = attempt.path / "lives"
    until(lambda: lives.exists() and len(lives.read_text().split()) == 4, "four engines")
    first, second, third, fourth = (float(word) for word in lives.read_text().split())
    assert second - first < 0.9
    assert 1.0 <= third - second < 1.9
    assert fourth - third < 3.8  # two seconds of progress and no delay; the next in the row would be two seconds more


def test_p11_a_stop_in_order_lets_a_live_engine_finish_its_file(yard: Yard):
    staged = yard.root / ".ffrtmp/1.1/out.mkv"
    source = "-re -f lavfi -i testsrc2=s=64x64"
    attempt = yard.start(f"exec ffmpeg -nostdin -nostats -progress pipe:1 {source} {staged}", live=True)
    until(lambda: b"out_time=00:00:01" in attempt.progress_tail(), "a second of video")
    yard.runner.stop(attempt.name)
    yard.ended(attempt, 5.0)
    outcome = attempt.outcome()
    assert outcome and outcome.how == "completed"
    assert os.system(f"ffprobe -v error {staged}") == 0
    assert b"Exiting normally" in log(attempt)


def test_a_stop_without_the_agents_note_is_the_host_going_down(yard: Yard):
    attempt = yard.start(LONG_ENCODE)
    yard.engine(attempt)
    guard = attempt.guard_pid()
    assert guard
    os.kill(guard.pid, signal.SIGTERM)
    yard.ended(attempt)
    outcome = attempt.outcome()
    assert outcome and outcome.how == "terminated"


def test_an_engine_that_hears_of_the_shutdown_before_its_guard_does_has_not_failed(yard: Yard):
    attempt = yard.start("exec sleep 600")
    engine = yard.engine(attempt)
    guard = attempt.guard_pid()
    assert guard
    os.kill(engine.pid, signal.SIGTERM)
    until(lambda: state_of(engine.pid) in ("", "Z"), "the engine has ended")
    os.kill(guard.pid, signal.SIGTERM)
    yard.ended(attempt)
    outcome = attempt.outcome()
    assert outcome and outcome.how == "terminated"


def test_p5_a_discarded_attempt_is_gone_at_once_even_if_its_engine_will_not_listen(yard: Yard):
    attempt = yard.start("trap '' TERM INT HUP; sleep 600 & setsid sleep 601 & while :; do sleep 1; done")
    until(lambda: len(yard.processes(attempt)) >= 4, "guard, engine and two children")
    began_s = time.monotonic()
    yard.runner.discard(attempt.name)
    assert time.monotonic() - began_s < 0.5
    yard.ended(attempt, 3.0)
    assert yard.processes(attempt) == []
    outcome = attempt.outcome()
    assert outcome and outcome.how == "stopped"


def test_an_engine_is_ended_when_its_lease_is_not_renewed(yard: Yard):
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    attempt = yard.start(LONG_ENCODE, lease_until_s=now_s + 1.5)
    yard.engine(attempt)
    attempt.renew_lease(now_s + 3.0)
    yard.ended(attempt, 10.0)
    outcome = attempt.outcome()
    assert outcome and (outcome.how, outcome.lease_lost) == ("terminated", True)
    assert outcome.unpaused_s > 2.5


def test_an_attempt_without_a_lease_that_needs_one_does_not_run(yard: Yard):
    attempt = yard.start(LONG_ENCODE, lease=True)
    yard.ended(attempt, 5.0)
    outcome = attempt.outcome()
    assert outcome and outcome.lease_lost


def test_a_file_that_grows_past_its_limit_ends_the_engine(yard: Yard):
    big = yard.root / ".ffrtmp/1.1/big"
    writer = f"sleep 0.5; exec dd if=/dev/zero of={big} bs=64k count=64"
    outcome = yard.run(writer, limits=Limits(file_bytes=1 << 20))
    assert (outcome.how, outcome.signal) == ("failed", signal.SIGXFSZ)
    assert big.stat().st_size == 1 << 20


def test_an_engine_is_as_nice_as_it_was_told(yard: Yard):
    attempt = yard.start(LONG_ENCODE, limits=Limits(nice=7))
    engine = yard.engine(attempt)
    until(lambda: os.getpriority(os.PRIO_PROCESS, engine.pid) == 7, "the engine is nice")
    assert name_of(engine.pid) == "ffmpeg"
    assert state_of(engine.pid) in "SRD"


def test_p12_a_damaged_job_file_ends_the_attempt_and_nothing_else(yard: Yard):
    attempt = yard.attempt(LONG_ENCODE)
    good = (attempt.path / "job.json").read_bytes()
    (attempt.path / "job.json").write_bytes(good.replace(b'"guard"', b'"ward"'))
    yard.runner.start(attempt, Limits())
    yard.ended(attempt)
    outcome = attempt.outcome()
    assert outcome and outcome.how == "failed"


def test_the_progress_file_is_kept_small_while_the_engine_goes_on_writing_it(yard: Yard):
    talk = "import time\nfor i in range(20_000): print('frame=1\\nout_time=%d' % i)\n"
    outcome = yard.run(python(talk + "time.sleep(1.5)\nprint('out_time=last')"))
    assert outcome.how == "completed"
    left = (yard.folder / "1.1/progress").read_text()
    assert len(left) < 256 << 10
    assert left.endswith("out_time=last\n")
    assert "\0" not in left
