"""Each row of the table of failure reasons, by a real ffmpeg that is made to fail that way."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import clips
import msgspec
import pytest
from media.bench import RECIPES, attempt, spec_of

from ffrtmp.spec import Pattern, Recipe, Video
from ffrtmp_agent.media.commands import command_file
from ffrtmp_agent.media.reasons import End, classify

QUICK = Recipe("quick", video=Video(width=320, height=180, preset="ultrafast"))
PATTERN = Pattern(320, 180, 25.0, 5.0)


def why(folder: Path, source, asked=QUICK, **limits):
    """(reason, transient, line) of a run that has to fail."""
    made = attempt(folder, spec_of(asked, source), source)
    done = made.run(**limits)
    assert done.returncode != 0
    failure = made.failure(done)
    assert failure.hint
    return failure.reason, failure.transient, failure.line


def file_of(folder: Path, content: bytes, name: str = "in.mp4") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


TEXT = b"this is a text and no film\n" * 100


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.txt", "in.ts", "in"])
@pytest.mark.parametrize("content", [b"", TEXT], ids=["empty", "text"])
def test_an_empty_or_text_file_is_an_input_error_for_good(tmp_path, name, content):
    reason, transient, line = why(tmp_path, file_of(tmp_path, content, name))
    assert (reason, transient) == ("input_error", False)
    assert line


def test_a_truncated_mp4_is_an_input_error_for_good_and_ffmpegs_line_is_quoted(tmp_path):
    content = clips.bigbuckbunny().read_bytes()[:500_000]
    reason, transient, line = why(tmp_path, file_of(tmp_path, content))
    assert (reason, transient) == ("input_error", False)
    assert "Invalid data found when processing input" in line


def test_p12_a_list_of_files_that_is_called_a_film_is_not_followed(tmp_path):
    secret = clips.generated()
    content = f"ffconcat version 1.0\nfile {secret}\n".encode()
    assert why(tmp_path, file_of(tmp_path, content))[:2] == ("input_error", False)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    (folder := tmp_path / "b").mkdir()
    assert why(folder, file_of(folder, playlist))[:2] == ("input_error", False)


def test_an_input_that_is_not_there_is_an_input_error(tmp_path):
    reason, transient, line = why(tmp_path, tmp_path / "none.mp4")
    assert (reason, transient) == ("input_error", False)
    assert "none.mp4" in line or "No such file" in line


def test_a_folder_as_input_is_an_input_error(tmp_path):
    assert why(tmp_path, tmp_path)[:2] == ("input_error", False)


@pytest.mark.parametrize(("scenario", "extra"), [("audio", ("-an",)), ("batch", ("-vn",))])
def test_an_input_without_what_the_scenario_needs_is_an_input_error(tmp_path, scenario, extra):
    source = clips.generated(0.5, name="half.mkv", extra=extra)
    reason, transient, line = why(tmp_path, source, RECIPES[scenario])
    assert (reason, transient) == ("input_error", False)
    assert "Stream map" in line


def test_an_input_that_this_user_may_not_read_is_the_nodes_lack_and_not_the_inputs(tmp_path):
    source = file_of(tmp_path, clips.generated().read_bytes())
    source.chmod(0)
    stranger = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with passable(tmp_path):
        reason, transient, line = why(tmp_path, source, **stranger)
    assert (reason, transient) == ("capability_mismatch", False)
    assert "Permission denied" in line


@contextmanager
def passable(folder: Path) -> Iterator[None]:
    """Let a stranger go down to `folder` for a while."""
    closed = [(path, path.stat().st_mode) for path in (folder, *folder.parents) if not path.stat().st_mode & 0o001]
    for path, mode in closed:
        path.chmod(mode | 0o001)
    try:
        yield
    finally:
        for path, mode in closed:
            path.chmod(mode)


def test_an_encoder_that_this_ffmpeg_has_not_is_the_nodes_lack(tmp_path):
    reason, transient, line = why(tmp_path, PATTERN, Recipe("x", video=Video(encoder="libnosuch")))
    assert (reason, transient) == ("capability_mismatch", False)
    assert "libnosuch" in line or "Encoder not found" in line


@pytest.mark.parametrize("encoder", ["h264_nvenc", "h264_vaapi", "h264_qsv"])
def test_a_hardware_encoder_without_its_hardware_is_the_nodes_lack(tmp_path, encoder):
    if any(Path("/dev").glob("nvidia*")) or Path("/dev/dri/renderD128").exists():
        return  # this host may well have it
    assert why(tmp_path, PATTERN, Recipe("x", video=Video(encoder=encoder)))[:2] == ("capability_mismatch", False)


@pytest.mark.parametrize(
    "arguments",
    [
        "-i {input} -nosuchoption 3 {output}",
        "-i {input} -c:v libx264 -crf abc {output}",
        "-i {input} -c:v libx264 -preset nosuch {output}",
        "-i {input} -c:v libx264 -profile:v nosuch {output}",
        "-i {input} -vf scale=abc:def {output}",
        "-i {input} -c:v libvpx-vp9 -f avi -c:a aac -f webm {output}",
    ],
)
def test_arguments_that_ffmpeg_does_not_take_are_the_users_error(tmp_path, arguments):
    source = clips.generated(0.5)
    spec = msgspec.structs.replace(spec_of(Recipe("", kind="plain"), source), arguments=tuple(arguments.split()))
    made = attempt(tmp_path, spec, source, "out.mp4")
    done = made.run()
    assert done.returncode != 0
    failure = made.failure(done)
    assert (failure.reason, failure.transient) == ("user_error", False), failure


@contextmanager
def server(answer) -> Iterator[str]:
    """An HTTP server on loopback that answers with `answer(handler)`; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/film.mp4"
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Try only once more, at once: the farm's patience is not what is tested here."""
    monkeypatch.setattr("ffrtmp_agent.media.sources._RECONNECT_S", 0)


@pytest.mark.parametrize(
    ("status", "reason", "transient"),
    [
        (404, "input_error", False),
        (403, "input_error", False),
        (401, "input_error", False),
        (410, "input_error", False),
        (429, "network_error", True),
        (500, "network_error", True),
        (503, "network_error", True),
    ],
)
def test_what_a_web_server_answers_decides_whether_it_is_tried_again(tmp_path, status, reason, transient):
    with server(lambda handler: (handler.send_response(status), handler.end_headers())) as url:
        assert why(tmp_path, url)[:2] == (reason, transient)


def test_a_server_that_is_not_there_is_a_network_error_and_tried_again(tmp_path):
    with server(lambda handler: None) as url:
        pass  # its port is free again
    reason, transient, line = why(tmp_path, url)
    assert (reason, transient) == ("network_error", True)
    assert "refused" in line


def test_a_host_that_nobody_knows_is_a_network_error_and_tried_again(tmp_path):
    assert why(tmp_path, "http://no-such-host.invalid/film.mp4")[:2] == ("network_error", True)


def test_a_server_that_says_nothing_is_a_network_error_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("ffrtmp_agent.media.sources._SILENCE_S", 1)
    over = threading.Event()
    with server(lambda handler: over.wait(20)) as url:
        try:
            assert why(tmp_path, url)[:2] == ("network_error", True)
        finally:
            over.set()


def _ranged(handler: BaseHTTPRequestHandler, content: bytes, cut: int) -> None:
    """Serve with ranges, but never what lies behind `cut`."""
    start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    try:
        handler.wfile.write(content[start:cut])
    except OSError:
        return


def test_an_http_source_is_transcoded_and_one_that_breaks_off_is_a_network_error(tmp_path):
    content = clips.generated(4.0, extra=("-movflags", "+faststart", "-g", "10")).read_bytes()
    with server(lambda handler: _ranged(handler, content, len(content))) as url:
        assert encoded_from(tmp_path, url).verdict().ok
    (folder := tmp_path / "b").mkdir()
    with server(lambda handler: _ranged(handler, content, len(content) // 2)) as url:
        verdict = encoded_from(folder, url).verdict()
    assert not verdict.ok
    assert (verdict.failure.reason, verdict.failure.transient) == ("network_error", True), verdict.failure


def test_a_film_with_its_index_at_its_end_needs_a_server_with_ranges_and_is_not_tried_again(tmp_path):
    content = clips.generated(4.0).read_bytes()
    assert content.rfind(b"moov") > content.rfind(b"mdat")

    def whole(handler: BaseHTTPRequestHandler, cut: int | None = None) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(content[:cut])

    with server(whole) as url:
        made = attempt(tmp_path, spec_of(QUICK_SOUND, url), url)
        failure = made.failure(made.run())
    assert (failure.reason, failure.transient) == ("input_error", False), failure
    assert "partial file" in failure.line and "no byte ranges" in failure.hint
    with server(lambda handler: _ranged(handler, content, len(content))) as url:
        (folder := tmp_path / "with-ranges").mkdir()
        assert encoded_from(folder, url).verdict().ok
    for cut in (len(content) // 2, len(content) - 10):  # a connection that breaks may hold the next time
        with server(partial(whole, cut=cut)) as url:
            (folder := tmp_path / f"cut-{cut}").mkdir()
            assert why(folder, url, QUICK_SOUND)[:2] == ("network_error", True)


def encoded_from(folder: Path, url: str):
    made = attempt(folder, spec_of(QUICK_SOUND, url), url)
    assert made.run().returncode == 0, (made.folder / "log").read_text()
    return made


QUICK_SOUND = msgspec.structs.replace(RECIPES["batch"], video=QUICK.video)


def test_a_full_disk_is_tried_again(tmp_path):
    asked = Recipe(
        "x", kind="audio", audio=msgspec.structs.replace(RECIPES["audio"].audio, codec="flac"), container="flac"
    )
    made = attempt(tmp_path, spec_of(asked, PATTERN), PATTERN)
    made.staged.symlink_to("/dev/full")
    done = made.run()
    failure = made.failure(done)
    assert (failure.reason, failure.transient) == ("resource_error", True)
    assert "No space left" in failure.line


def _limit(kind: int, amount: int, *, deaf: bool = False) -> None:
    resource.setrlimit(kind, (amount, amount))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN if deaf else signal.SIG_DFL)


@pytest.mark.parametrize("deaf", [False, True])
def test_an_output_that_grows_past_its_limit_is_final(tmp_path, deaf):
    limited = partial(_limit, resource.RLIMIT_FSIZE, 60_000, deaf=deaf)
    # Restored by Python otherwise, and then the limit kills instead of failing the write.
    outcome = why(tmp_path, PATTERN, preexec_fn=limited, restore_signals=False)
    assert outcome[:2] == ("resource_error", False)


def test_too_little_memory_is_tried_again(tmp_path):
    limited = partial(_limit, resource.RLIMIT_AS, 420 << 20)
    asked = Recipe("x", video=Video(width=3840, height=2160, upscale=True, preset="medium"))
    assert why(tmp_path, PATTERN, asked, preexec_fn=limited)[:2] == ("resource_error", True)


def test_a_staging_folder_that_is_gone_is_the_platforms_fault_and_not_the_inputs(tmp_path):
    made = attempt(tmp_path, spec_of(QUICK, PATTERN), PATTERN)
    Path(made.paths.staging).rmdir()
    failure = made.failure(made.run())
    assert (failure.reason, failure.transient) == ("platform_error", True)


def _ended_by(folder: Path, number: int):
    """The failure of an encode that gets a signal once it has begun."""
    made = attempt(folder, spec_of(QUICK, Pattern(320, 180, 25.0, 3600.0)), PATTERN)
    argv = ["/bin/sh", "-c", f"exec {command(made)}"]
    with (made.folder / "log").open("wb") as log:
        engine = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    try:
        engine.stdout.readline()  # the first line of progress
        engine.send_signal(number)
        engine.stdout.read()
    finally:
        engine.kill()
        engine.stdout.close()
        engine.wait()
    return made.failure(subprocess.CompletedProcess(argv, engine.returncode))


def command(made) -> str:
    return command_file(made.spec, made.paths).splitlines()[-1].removeprefix("exec ")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "platform_error"),
        (signal.SIGTERM, "platform_error"),
        (signal.SIGSEGV, "runtime_error"),
        (signal.SIGABRT, "runtime_error"),
    ],
)
def test_an_engine_that_is_killed_or_crashes_is_tried_again(tmp_path, number, reason):
    failure = _ended_by(tmp_path, number)
    assert (failure.reason, failure.transient) == (reason, True)


@pytest.mark.parametrize(
    ("end", "reason", "transient"),
    [
        (End(signal=9, oom_kills=1), "resource_error", True),
        (End(status=255, timed_out=True), "timeout", False),
        (End(status=255, stalled=True), "timeout", True),
        (End(signal=9, timed_out=True), "timeout", False),
        (End(signal=24), "resource_error", False),
        (End(), "runtime_error", True),
        (End(status=1), "runtime_error", True),
    ],
)
def test_what_the_guard_and_the_host_know_goes_before_what_ffmpeg_says(end, reason, transient):
    failure = classify(end, "frame= 1\nsomething nobody knows\n")
    assert (failure.reason, failure.transient) == (reason, transient)


def test_a_node_without_ffmpeg_says_so(tmp_path):
    made = attempt(tmp_path, spec_of(QUICK, PATTERN), PATTERN)
    done = made.run(env={"PATH": str(tmp_path)})
    assert made.failure(done).reason == "capability_mismatch"


def test_trouble_that_was_got_over_is_not_the_reason():
    log = "[tcp] Connection to tcp://x failed: Connection refused\n[http] HTTP error 404 Not Found\n"
    assert classify(End(status=1), log).reason == "input_error"
    assert (
        classify(End(status=1), log + "write: No space left on device\nInvalid argument\n").reason == "resource_error"
    )


def test_the_telling_line_is_printable_and_short():
    failure = classify(End(status=1), "\x1b[31mfile @ 0x5a5a: Invalid data found when processing input" + "x" * 1000)
    assert failure.line.isprintable()
    assert "0x5a5a" not in failure.line
    assert len(failure.line) == 300
