"""The attempt directory: whole or not at all, and nothing in it is believed."""

from __future__ import annotations

import os
import resource
import stat
import sys
from pathlib import Path

import pytest
from runner.yard import Yard, python

from ffrtmp.errors import FarmError
from ffrtmp.spec import Fingerprint, Limits
from ffrtmp_agent import joblog
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.claims import Intent
from ffrtmp_agent.guarding.tee import Log

CLAIMS = ["outcome", "verified", "state", "guard.pid", "progress", "guard.err"]


def read_everything(attempt: AttemptDir) -> list[object]:
    claims = [attempt.outcome(), attempt.verdict(), attempt.guard_pid(), attempt.progress_tail(), attempt.complaint()]
    return [*claims, attempt.state().restarts, joblog.chunks(attempt.path, 0, 1 << 20)]


def test_p1_an_attempt_directory_is_there_whole_or_not_at_all(yard: Yard):
    made = yard.attempt("exit 0", name="42.3")
    (yard.folder / ".new-43.1").mkdir()
    (yard.folder / ".new-43.1/command").write_text("half")
    (yard.folder / ".gone-41.1").mkdir()
    (yard.folder / "notes.txt").write_text("not ours")
    (yard.folder / "44.1").symlink_to(made.path)
    yard.attempt("exit 0", name="5.1")
    assert [one.name for one in AttemptDir.scan(yard.folder)] == ["5.1", "42.3"]
    assert sorted(one.name for one in yard.folder.iterdir()) == ["42.3", "44.1", "5.1", "notes.txt"]
    job = made.job_file()
    assert job and (job.job, job.attempt) == (42, 3)
    assert made.path.stat().st_mode & stat.S_ISVTX


def test_an_attempt_is_made_once(yard: Yard):
    made = yard.attempt("exit 0")
    job = made.job_file()
    assert job
    with pytest.raises(FileExistsError):
        AttemptDir.create(yard.folder, job, "exit 1")
    assert (made.path / "command").read_text() == "exit 0"


def test_a_removed_directory_takes_nothing_else_with_it(yard: Yard):
    made = yard.attempt("exit 0")
    outside = yard.base / "outside"
    outside.mkdir()
    (outside / "precious").write_text("here")
    (made.path / "link").symlink_to(outside)
    made.remove()
    made.remove()
    assert list(yard.folder.iterdir()) == []
    assert (outside / "precious").read_text() == "here"


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"\xff\xfe\0" * 1000, b"[" * 100_000, b'{"boot_id": 1}', b"null", b"-1 x y", b'{"how": "won"}'],
    ids=["empty", "cut", "binary", "deep", "mistyped", "null", "words", "foreign"],
)
def test_p12_garbage_in_the_jobs_files_is_nothing(yard: Yard, garbage: bytes):
    attempt = yard.attempt("exit 0")
    for name in CLAIMS:
        (attempt.path / name).write_bytes(garbage)
    assert read_everything(attempt)[:3] == [None, None, None]


def test_p12_a_link_pipe_or_folder_in_place_of_a_file_is_nothing(yard: Yard):
    attempt = yard.attempt("exit 0")
    secret = yard.base / "secret"
    secret.write_text('{"boot_id": "x", "how": "verified"}')
    (attempt.path / "outcome").symlink_to(secret)
    (attempt.path / "log").symlink_to(secret)
    os.mkfifo(attempt.path / "verified")
    os.mkfifo(attempt.path / "log.500")
    (attempt.path / "guard.pid").mkdir()
    (attempt.path / "progress").hardlink_to(secret)
    assert read_everything(attempt) == [None, None, None, b"", "", 0, []]
    assert joblog.size(attempt.path) == 0


def test_p12_the_agent_writes_through_no_link_that_a_job_has_laid(yard: Yard):
    attempt = yard.attempt("exit 0")
    precious = yard.base / "precious"
    precious.write_text("here")
    for name in ("stop", "lease", "intent", ".stop", ".lease", ".intent", f".intent.{os.getpid()}"):
        (attempt.path / name).symlink_to(precious)
    attempt.write_stop("stop")
    attempt.renew_lease(12.0)
    attempt.write_intent(Intent(1, Fingerprint(1, "aa")))
    assert precious.read_text() == "here"
    assert attempt.stop_note() == "stop"
    assert (attempt.path / "lease").read_text() == "12.000\n"


def test_an_attempt_knows_whether_its_lease_is_over_before_it_begins(yard: Yard):
    attempt = yard.attempt("exit 0")
    assert not attempt.lease_over(1e9), "it needs none"
    attempt.renew_lease(12.0)
    assert not attempt.lease_over(11.9)
    assert attempt.lease_over(12.0)


def test_what_is_not_the_agents_own_is_no_intent_and_no_note(yard: Yard):
    attempt = yard.attempt("exit 0")
    attempt.write_intent(Intent(7, Fingerprint(1, "aa")))
    attempt.write_stop("stop")
    assert attempt.intent() == Intent(7, Fingerprint(1, "aa"))
    if os.geteuid() == 0:  # only root can give a file away
        for name in ("intent", "stop", "job.json"):
            os.chown(attempt.path / name, 65534, 65534)
        assert (attempt.intent(), attempt.stop_note(), attempt.job_file()) == (None, None, None)
    attempt.clear_intent()
    assert attempt.intent() is None


def test_a_discard_is_not_taken_back(yard: Yard):
    attempt = yard.attempt("exit 0")
    attempt.write_stop("discard")
    attempt.write_stop("stop")
    assert attempt.stop_note() == "discard"


def test_only_a_number_pair_names_an_attempt(tmp_path: Path):
    for name in ("0.1", "1", "1.0", "a.b", "1.1.1", "../1.1x", ".new-1.1"):
        with pytest.raises(FarmError):
            AttemptDir(tmp_path / name)


# ---- the log ----


def test_all_that_an_engine_says_is_in_its_log(yard: Yard):
    attempt = yard.start(python("import sys\nfor i in range(2000): print('line', i, file=sys.stderr)"))
    yard.ended(attempt)
    expected = b"".join(b"line %d\n" % i for i in range(2000))
    assert joblog.chunks(attempt.path, 0, 1 << 20) == [(0, expected)]
    assert joblog.chunks(attempt.path, 100, 50) == [(100, expected[100:150])]
    assert joblog.size(attempt.path) == len(expected)
    outcome = attempt.outcome()
    assert outcome and outcome.log_bytes == len(expected)


def test_a_flood_of_log_lines_is_bounded_and_keeps_its_head_and_its_tail(yard: Yard):
    flood = "import sys\nfor i in range(120_000): sys.stderr.write('line %06d\\n' % i)"
    attempt = yard.start(python(flood), log_max_bytes=64 << 10)
    yard.ended(attempt)
    total = 120_000 * 12
    assert joblog.size(attempt.path) == total
    assert joblog.kept_bytes(attempt.path) <= 64 << 10
    (head_at, head), (tail_at, tail) = joblog.chunks(attempt.path, 0, 1 << 20)
    whole = b"".join(b"line %06d\n" % i for i in range(120_000))
    assert (head_at, head) == (0, whole[: 32 << 10])
    assert tail == whole[tail_at:]
    assert 28 << 10 <= len(tail) <= 32 << 10


def test_a_reader_goes_on_where_it_was_while_the_log_is_cut_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    written = Log(4096)
    whole, seen, offset = b"", {}, 0
    for number in range(3000):
        line = b"%d,%s\n" % (number, b"x" * (number % 90))
        whole += line
        written.write(line)
        if number % 7 == 0:
            for at, data in joblog.chunks(tmp_path, offset, 300):
                seen[at], offset = data, at + len(data)
    assert all(whole[at : at + len(data)] == data for at, data in seen.items())
    assert sorted(seen) == list(seen)
    assert joblog.kept_bytes(tmp_path) <= 4096
    assert joblog.size(tmp_path) == written.offset == len(whole)


def test_what_a_full_disk_swallowed_is_a_gap_and_the_rest_is_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A file size limit stands for the full disk: both refuse a write in its middle. Then there is room again."""
    monkeypatch.chdir(tmp_path)
    whole = b"".join(b"line %06d\n" % i for i in range(1000))
    written = Log(64 << 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        written.write(whole[:5000])
        resource.setrlimit(resource.RLIMIT_FSIZE, (5100, limits[1]))
        written.write(whole[5000:6000])
        written.write(whole[6000:7000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    written.write(whole[7000:])
    chunks = joblog.chunks(tmp_path, 0, 1 << 20)
    assert all(whole[at : at + len(data)] == data for at, data in chunks)
    assert chunks[0] == (0, whole[:5100])
    assert chunks[-1][0] + len(chunks[-1][1]) == len(whole) == joblog.size(tmp_path)
    assert b"".join(data for _, data in chunks) != whole


def test_a_guard_under_a_file_size_limit_still_records_the_end(yard: Yard):
    attempt = yard.attempt(python("import sys\nfor i in range(3000): sys.stderr.write('line %06d\\n' % i)"))
    assert os.system(f"sh -c 'ulimit -f 16; exec {sys.executable} -I -S -B {GUARD} {attempt.path}'") == 0
    outcome = attempt.outcome()
    assert outcome and outcome.how == "completed"


GUARD = Path(joblog.__file__).with_name("guard.py")


def test_limits_reach_the_guard(yard: Yard):
    job = yard.attempt("exit 0", limits=Limits(time_s=5, file_bytes=7, nice=3)).job_file()
    assert job and (job.guard["time_limit_s"], job.guard["file_bytes"], job.guard["nice"]) == (5, 7, 3)
