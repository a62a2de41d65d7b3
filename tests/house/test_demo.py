"""`make demo`: a whole farm for one job, which leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).resolve().parent.parent.parent
DONE_S = 100.0


@pytest.fixture
def own_temp() -> Iterator[Path]:
    """Where the demo makes its temporary folders: pytest's own are too long for the path of a socket."""
    with tempfile.TemporaryDirectory(prefix="ffrtmp-t-") as folder:
        yield Path(folder)


@contextmanager
def demo(own_temp: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A running demo; killed at the end if it still runs, and then what it started by its folder."""
    command = [sys.executable, str(HERE / "tools" / "demo.py"), *words]
    environ = {**os.environ, "TMPDIR": str(own_temp)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            for left in running_in(own_temp):
                left.kill()


def running_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(f"{folder}/" in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def clip(folder: Path, seconds: int) -> Path:
    made = folder / "clip.mp4"
    source = ["-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=25:duration={seconds}"]
    command = [
        "ffmpeg",
        "-nostdin",
        "-loglevel",
        "error",
        *source,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        str(made),
    ]
    subprocess.run(command, check=True, timeout=60)
    return made


def assert_nothing_stays(own_temp: Path, media: Path) -> None:
    assert running_in(own_temp) == []
    assert list(own_temp.iterdir()) == []
    assert not (media / ".ffrtmp").exists()


def test_the_demo_transcodes_a_video_and_says_where_it_is(tmp_path: Path, own_temp: Path):
    media = tmp_path / "with a space"
    media.mkdir()
    output = media / "out.mp4"
    asked = tmp_path / "aside" / ".." / media.name / "out.mp4"
    (tmp_path / "aside").mkdir()
    words = ["--input", str(clip(media, 2)), "--output", str(asked), "--scenario", "480p30-h264"]
    with demo(own_temp, *words) as process:
        told, _ = process.communicate(timeout=DONE_S)
    assert process.returncode == 0, told
    assert told.splitlines()[-1] == f"demo: completed {output}"
    shown = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "json", str(output)],
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert json.loads(shown.stdout)["streams"] == [{"codec_name": "h264"}]
    assert re.search(r"^job 1 is running on demo \(encoding\)", told, re.MULTILINE), "progress"
    log, _, result = told.partition("the end of ffmpeg's own log of job 1:\n")[2].partition("the result:\n")
    assert re.search(r"^  video:\d+", log, re.MULTILINE) and " @ 0x" not in log and "Metadata" not in log
    assert 1 < len(log.splitlines()) <= 12
    assert re.search(r"^  length +2\.0 s\n  encoded in +[0-9.]+ s\n  frames +50 \([0-9.]+ fps\)$", result, re.MULTILINE)
    assert_nothing_stays(own_temp, media)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_leaves_nothing_running_when_it_is_interrupted_in_mid_job(
    tmp_path: Path, own_temp: Path, number: signal.Signals
):
    media = tmp_path / "media"
    media.mkdir()
    output = media / "out.mp4"
    words = ["--input", str(clip(media, 120)), "--output", str(output), "--scenario", "1080p60-h265"]
    with demo(own_temp, *words) as process:
        deadline = time.monotonic() + DONE_S
        while not any(left.name() == "ffmpeg" and ".ffrtmp" in " ".join(left.cmdline()) for left in ffmpegs(media)):
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            assert time.monotonic() < deadline, "no job was started"
            time.sleep(0.05)
        process.send_signal(number)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert told.splitlines()[-1] == f"demo: failed: interrupted by {number.name}; nothing is left running"
    assert ffmpegs(media) == []
    assert not output.exists()
    assert_nothing_stays(own_temp, media)


def ffmpegs(media: Path) -> list[psutil.Process]:
    return [process for process in running_in(media) if process.name() == "ffmpeg"]


@pytest.mark.parametrize(
    ("scenario", "content", "reason"),
    [("480p30-h264", "this is no video", "input_error"), ("no-such-thing", "", "no-such-thing")],
)
def test_the_demo_says_why_it_failed(tmp_path: Path, own_temp: Path, scenario: str, content: str, reason: str):
    media = tmp_path / "media"
    media.mkdir()
    source = media / "text.mp4"
    source.write_text(content)
    words = ["--input", str(source), "--output", str(media / "out.mp4"), "--scenario", scenario]
    with demo(own_temp, *words) as process:
        told, _ = process.communicate(timeout=DONE_S)
    assert process.returncode == 1
    lines = told.splitlines()
    (failed,) = (line for line in lines if line.startswith("demo: failed: "))
    assert reason in failed and "hint:" not in failed
    hints = [line for line in lines if line.startswith("hint: ")]
    assert len(hints) == 1, "a line of its own"
    # The hint of a job was told with its end; that of a submission which was refused stands below the reason.
    assert lines[-1] == (failed if content else hints[0])
    assert_nothing_stays(own_temp, media)


def test_the_demo_says_at_once_that_there_is_no_input(tmp_path: Path, own_temp: Path):
    with demo(own_temp, "--input", str(tmp_path / "absent.mov"), "--output", str(tmp_path / "out.mp4")) as process:
        told, _ = process.communicate(timeout=DONE_S)
    assert told.splitlines() == [f"demo: failed: there is no file {tmp_path / 'absent.mov'}"]
    assert process.returncode == 1
