"""An encoder is offered only after it worked here, whatever ffmpeg lists; and no ffmpeg, however broken, does harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ffrtmp.host import encoders
from ffrtmp.host.bounded import MAX_OUTPUT_BYTES, Batch
from ffrtmp.host.encoders import CANDIDATES
from ffrtmp.host.survey import DAY_S, Survey, Surveyor, Terms, read_cache, survey

NOW_S = 1_800_000_000.0
QUICK = ("libx264", "aac", "h264_nvenc")
BRIEF = Terms(question_limit_s=1.0, trial_limit_s=0.5, total_s=4.0)


class Wrapper:
    """A real ffmpeg behind a script that notes each call and may misbehave, without its file ever changing."""

    def __init__(self, folder: Path, on_encode: str = "", on_question: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.calls_file, self.mood_file = folder / "ffmpeg", folder / "calls", folder / "mood"
        self.mood_file.write_text("")
        self.path.write_text(
            f'#!/bin/sh\necho "$*" >>"{self.calls_file}"\nmood=$(cat "{self.mood_file}")\n'
            f'case "$*" in *framecrc*) {on_encode or ":"} ;; *) {on_question or ":"} ;; esac\n'
            'if [ "$mood" = hang ]; then sleep 600; fi\nexec ffmpeg "$@"\n'
        )
        self.path.chmod(0o755)

    def calls(self) -> list[str]:
        """The command lines since the last call of this."""
        found = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.write_text("")
        return found

    def trials(self) -> list[str]:
        """Of those the trial encodes: the names of their encoders."""
        return [line.split("-c:", 1)[1].split()[1] for line in self.calls() if "framecrc" in line]


def survey_of(wrapper: Wrapper, cache: Path | None = None, *, now_s: float = NOW_S, **more: object) -> Survey:
    return survey(str(wrapper.path), now_s=now_s, cache=cache, **{"candidates": QUICK, **more})  # type: ignore[arg-type]


def sleepers(folder: Path) -> list[int]:
    """Processes other than this one that a wrapper in `folder` is or started."""
    mark = str(folder)
    found = []
    for process in psutil.process_iter():
        try:
            named = any(mark in word for word in process.cmdline())
            marked = process.environ().get("FFRTMP_TEST_FOLDER") == mark
            if process.pid != os.getpid() and (named or marked) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_until(true: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test starts is recognised by its environment, however deep."""
    monkeypatch.setenv("FFRTMP_TEST_FOLDER", str(tmp_path))
    yield
    deadline = time.monotonic() + 2.0  # what was killed needs a moment to be gone
    while (left := sleepers(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


@pytest.fixture(scope="module")
def here() -> Survey:
    """The survey of this host as it is, with all candidates."""
    return survey(now_s=NOW_S)


def test_the_encoders_that_worked_here_are_offered(here: Survey):
    assert {"libx264", "aac", "mjpeg", "png", "flac"} <= set(here.encoders)
    assert here.engines[0] == "ffmpeg"
    assert here.abilities.version
    assert {"psnr", "ssim"} <= set(here.abilities.filters)
    assert {"file", "http", "https", "rtmp"} <= set(here.abilities.input_protocols)
    assert {"file", "rtmp"} <= set(here.abilities.output_protocols)


def test_each_candidate_is_offered_or_the_reason_is_told(here: Survey):
    assert [proof.encoder for proof in here.proofs] == list(CANDIDATES)
    for proof in here.proofs:
        assert proof.offered != bool(proof.reason), proof
        assert here.why_not(proof.encoder) == (None if proof.offered else proof.reason)


def test_a_listed_encoder_without_its_hardware_is_not_offered_and_ffmpegs_line_says_why(here: Survey):
    if Path("/dev/nvidiactl").exists():
        assert "h264_nvenc" in here.abilities.listed
    elif "h264_nvenc" in here.abilities.listed:
        assert here.why_not("h264_nvenc") == "h264_nvenc: Cannot load libcuda.so.1"
    if not Path("/dev/dri").exists() and "h264_vaapi" in here.abilities.listed:
        assert here.why_not("h264_vaapi") == "there is no render node (/dev/dri/renderD*)"


def test_a_va_api_encoder_is_tried_on_every_render_node():
    nodes = ("/dev/dri/renderD128", "/dev/dri/renderD129")
    found = encoders.trials("hevc_vaapi", "/usr/bin/ffmpeg", nodes)
    assert tuple(found) == nodes
    for node, command in found.items():
        assert command[command.index("-vaapi_device") + 1] == node
    assert encoders.trials("hevc_vaapi", "/usr/bin/ffmpeg", ()) == {}


def test_an_encoder_that_is_not_built_in_is_not_tried(tmp_path: Path):
    hide = '*-encoders*) exec ffmpeg "$@" | grep -v libx264'
    wrapper = Wrapper(tmp_path, on_question=f'case "$*" in {hide}; exit ;; esac')
    found = survey_of(wrapper)
    assert found.why_not("libx264") == "this ffmpeg was built without it"
    assert "libx264" not in wrapper.trials()
    assert "aac" in found.encoders


def test_an_encoder_that_ends_well_and_writes_nothing_is_not_offered(tmp_path: Path):
    found = survey_of(Wrapper(tmp_path, on_encode="exit 0"))
    assert found.encoders == ()
    assert found.why_not("libx264") == "the trial wrote nothing"


def test_an_encoder_that_crashes_is_not_offered(tmp_path: Path):
    found = survey_of(Wrapper(tmp_path, on_encode='case "$*" in *libx264*) kill -SEGV $$ ;; esac'))
    assert found.encoders == ("aac",)
    assert found.why_not("libx264") == "the trial ended with signal 11"


def test_an_encoder_that_hangs_is_given_up_in_time_and_leaves_no_process(tmp_path: Path):
    wrapper = Wrapper(tmp_path, on_encode="sleep 600 & sleep 600")
    started = time.monotonic()
    found = survey_of(wrapper, terms=BRIEF)
    assert time.monotonic() - started < 15.0
    assert found.encoders == ()
    assert "did not end within" in (found.why_not("aac") or "")
    wait_until(lambda: not sleepers(tmp_path))


def test_an_ffmpeg_that_hangs_at_every_question_offers_nothing_and_says_so(tmp_path: Path):
    started = time.monotonic()
    found = survey_of(Wrapper(tmp_path, on_question="sleep 600"), terms=BRIEF)
    assert time.monotonic() - started < 15.0
    assert found.abilities.problem == "it did not answer to -version within 1 s"
    assert (found.encoders, found.engines) == ((), tuple(e for e in found.engines if e != "ffmpeg"))
    assert found.why_not("libx264") == found.abilities.problem


def test_an_ffmpeg_that_fails_offers_nothing_and_its_line_is_told(tmp_path: Path):
    broken = "echo 'error while loading shared libraries: libavcodec.so.59' >&2; exit 127"
    found = survey_of(Wrapper(tmp_path, on_question=broken))
    assert found.abilities.problem == "error while loading shared libraries: libavcodec.so.59"
    assert found.encoders == ()


def test_p12_an_ffmpeg_that_prints_without_end_is_stopped(tmp_path: Path):
    found = survey_of(Wrapper(tmp_path, on_question="exec yes ffmpeg version 1"), terms=BRIEF)
    assert found.abilities.problem == "it printed without end when asked for -version"


def test_a_host_without_ffmpeg_offers_no_encoder():
    found = survey("ffmpeg-that-is-not-there", now_s=NOW_S)
    assert found.abilities.problem == "ffmpeg-that-is-not-there is not installed"
    assert found.encoders == ()
    assert "ffmpeg" not in found.engines


def test_all_trials_together_are_bounded_in_time(tmp_path: Path):
    terms = Terms(question_limit_s=2.0, trial_limit_s=1.5, total_s=2.0)
    started = time.monotonic()
    found = survey_of(Wrapper(tmp_path, on_encode="sleep 600"), terms=terms, candidates=tuple(CANDIDATES))
    assert time.monotonic() - started < 15.0
    assert found.encoders == ()
    assert found.why_not("libmp3lame") == "not tried: the time for trials was used up"


def test_the_loop_of_the_agent_is_never_held_up_by_a_survey(tmp_path: Path):
    wrapper = Wrapper(tmp_path, on_encode="sleep 600")
    longest_s = 0.0
    with Surveyor(
        str(wrapper.path), now_s=NOW_S, terms=Terms(trial_limit_s=1.5), candidates=("flac", "png")
    ) as surveyor:
        deadline = time.monotonic() + 10
        while True:
            before = time.monotonic()
            done = surveyor.step()
            longest_s = max(longest_s, time.monotonic() - before)
            if done:
                break
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert longest_s < 1.0


def test_a_survey_that_is_closed_early_leaves_no_process(tmp_path: Path):
    wrapper = Wrapper(tmp_path, on_encode="sleep 600")
    with Surveyor(str(wrapper.path), now_s=NOW_S, candidates=QUICK) as surveyor:
        deadline = time.monotonic() + 10
        while not (wrapper.calls_file.exists() and "framecrc" in wrapper.calls_file.read_text()):
            assert not surveyor.step(0.05)
            assert time.monotonic() < deadline
    wait_until(lambda: not sleepers(tmp_path))


def test_an_agent_killed_in_a_survey_leaves_no_process_behind(tmp_path: Path):
    wrapper = Wrapper(tmp_path, on_encode="sleep 600")
    code = (
        "import sys; from ffrtmp.host.survey import *\n"
        f"survey({str(wrapper.path)!r}, now_s=1.0, candidates={QUICK!r}, terms=Terms(trial_limit_s=0.5))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as agent:
        try:
            wait_until(lambda: wrapper.calls_file.exists() and "framecrc" in wrapper.calls_file.read_text())
        finally:
            agent.kill()
    wait_until(lambda: not sleepers(tmp_path))


def test_proofs_are_kept_over_a_restart_of_the_agent(tmp_path: Path):
    wrapper, cache = Wrapper(tmp_path / "bin"), tmp_path / "encoders.json"
    first = survey_of(wrapper, cache, candidates=("flac",))
    assert wrapper.trials() == ["flac"]
    assert survey_of(wrapper, cache, candidates=("flac",), now_s=NOW_S + 5) == first == read_cache(cache)
    assert wrapper.calls() == []


def test_hardware_and_failures_are_tried_again_after_minutes_and_software_after_a_day(tmp_path: Path):
    wrapper, cache = Wrapper(tmp_path / "bin"), tmp_path / "encoders.json"
    assert "h264_nvenc" not in survey_of(wrapper, cache, candidates=("flac", "h264_nvenc")).encoders
    wrapper.calls()
    later = survey_of(wrapper, cache, now_s=NOW_S + 601, candidates=("flac", "h264_nvenc"))
    assert wrapper.trials() == ["h264_nvenc"]
    assert "flac" in later.encoders
    assert later.due_s() == NOW_S + 601 + 600
    survey_of(wrapper, cache, now_s=NOW_S + DAY_S, candidates=("flac",))
    assert wrapper.trials() == ["flac"]


def test_another_ffmpeg_is_proved_anew(tmp_path: Path):
    wrapper, cache = Wrapper(tmp_path / "bin"), tmp_path / "encoders.json"
    survey_of(wrapper, cache, candidates=("flac",))
    wrapper.calls()
    os.utime(wrapper.path, ns=(1, 1))
    survey_of(wrapper, cache, candidates=("flac",), now_s=NOW_S + 1)
    assert wrapper.trials() == ["flac"]


def test_proofs_are_made_anew_on_demand_and_when_the_clock_went_back(tmp_path: Path):
    wrapper, cache = Wrapper(tmp_path / "bin"), tmp_path / "encoders.json"
    survey_of(wrapper, cache, candidates=("flac",))
    wrapper.calls()
    survey_of(wrapper, cache, candidates=("flac",), now_s=NOW_S + 1, force=True)
    assert wrapper.trials() == ["flac"]
    survey_of(wrapper, cache, candidates=("flac",), now_s=NOW_S - DAY_S)
    assert wrapper.trials() == ["flac"]


def test_a_busy_host_does_not_take_back_a_software_encoder_that_it_had_proved(tmp_path: Path):
    wrapper, cache = Wrapper(tmp_path / "bin"), tmp_path / "encoders.json"
    survey_of(wrapper, cache, candidates=("libx264",))
    wrapper.mood_file.write_text("hang")
    found = survey_of(wrapper, cache, now_s=NOW_S + DAY_S, candidates=("libx264",), terms=BRIEF)
    assert found.encoders == ("libx264",)
    assert found.proofs[0].reason.startswith("proved before; the trial did not end")
    assert found.due_s() == NOW_S + DAY_S + 600


@pytest.mark.parametrize("content", [b"", b'{"program": 1}', b'{"program": "x", "format": 999}'])
def test_a_spoilt_cache_is_no_cache(tmp_path: Path, content: bytes):
    cache = tmp_path / "encoders.json"
    cache.write_bytes(content)
    assert read_cache(cache) is None
    assert survey(now_s=NOW_S, cache=cache, candidates=("aac",)).encoders == ("aac",)
    assert read_cache(cache) is not None


def test_a_survey_that_cannot_be_kept_is_still_good_and_says_why(tmp_path: Path):
    with Surveyor(now_s=NOW_S, cache=tmp_path / "gone" / "encoders.json", candidates=("aac",)) as surveyor:
        while not surveyor.step(1.0):
            pass
    assert surveyor.result is not None
    assert surveyor.result.encoders == ("aac",)
    assert surveyor.unsaved == f"{tmp_path / 'gone' / 'encoders.json'}: No such file or directory"


def test_p12_what_a_program_prints_is_cut_and_what_cannot_be_run_is_told():
    commands = {
        "flood": ("sh", "-c", "exec yes 1>&2"),
        "missing": ("/no/such/program",),
        "binary": ("printf", "\\377\\376ok"),
        "status": ("sh", "-c", "exit 3"),
        "orphan": ("sh", "-c", "sleep 600 & echo left"),
    }
    started = time.monotonic()
    ran = Batch(commands, limit_s=5.0, total_s=10.0).run()
    assert time.monotonic() - started < 15.0
    assert ran["flood"].how == "flooded"
    assert len(ran["flood"].errors) <= MAX_OUTPUT_BYTES
    assert not ran["missing"].ok
    assert "No such file" in ran["missing"].errors
    assert ran["binary"].output.endswith("ok")
    assert (ran["status"].how, ran["status"].status) == ("exited", 3)
    assert ran["orphan"].output == "left\n"


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_batches_leave_no_descriptor_open():
    before = open_files()
    for _ in range(5):
        Batch({str(n): ("true",) for n in range(5)}, limit_s=5.0, total_s=5.0).run()
    assert open_files() == before
