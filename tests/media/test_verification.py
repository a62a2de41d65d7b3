"""P3: only an output that is whole and what was asked for is verified; and what a verified one is known by."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import clips
import msgspec
import pytest
from media.bench import RECIPES, Attempt, attempt, encoded, recipe, spec_of

from ffrtmp.errors import FarmError
from ffrtmp.spec import Audio, Pattern, Recipe, Thumbnails, Video
from ffrtmp_agent import jobfile
from ffrtmp_agent.media.fingerprint import fingerprint

QUICK = Recipe("quick", video=Video(width=320, height=180, preset="ultrafast"), audio=Audio())


def staged(
    folder: Path, content: bytes | Path, source: Path | Pattern, asked: Recipe = QUICK, log: str = ""
) -> Attempt:
    """An attempt that staged this, whatever it was asked."""
    made = attempt(folder, spec_of(asked, source), source)
    made.staged.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (made.folder / "log").write_text(log)
    return made


def refused(made: Attempt) -> tuple[str, bool, str]:
    verdict = made.verdict()
    assert not verdict.ok
    assert verdict.fingerprint is None
    return verdict.failure.reason, verdict.failure.transient, verdict.failure.line


def test_a_good_output_is_verified_by_the_program_that_the_guard_runs(tmp_path):
    made = encoded(tmp_path, QUICK, clips.generated())
    (made.folder / "state").write_text('{"phase": "verifying", "encode_s": 0.5}')
    verdict = made.verify()
    assert verdict.ok
    assert verdict.fingerprint.digest == hashlib.sha256(made.staged.read_bytes()).hexdigest()
    results = verdict.results
    assert (results.frames, results.fps, results.encode_s) == (50, 100.0, 0.5)
    assert results.media_s == pytest.approx(2.0, abs=0.1)
    assert (results.input_bytes, results.output_bytes) == (clips.generated().stat().st_size, made.staged.stat().st_size)
    assert results.output_bps == pytest.approx(8 * results.output_bytes / results.media_s, rel=0.01)
    assert results.input_bps > 0
    assert results.psnr_db is None


def test_the_program_says_with_its_exit_status_that_it_could_not_judge(tmp_path):
    argv = [sys.executable, "-m", "ffrtmp_agent.media.verify", str(tmp_path), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "verified").exists()


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_p3_an_output_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path, container):
    asked = msgspec.structs.replace(QUICK, container=container)
    whole = encoded(tmp_path, asked, clips.generated(4.0)).staged.read_bytes()
    for number, share in enumerate((0.05, 0.5, 0.8, 0.97)):
        (folder := tmp_path / str(number)).mkdir()
        assert refused(staged(folder, whole[: int(len(whole) * share)], clips.generated(4.0), asked))[1]


def test_p3_an_output_whose_end_is_rubbish_is_refused(tmp_path):
    whole = bytearray(encoded(tmp_path, QUICK, clips.generated(4.0)).staged.read_bytes())
    whole[-3000:-500] = bytes(2500)
    (folder := tmp_path / "b").mkdir()
    assert "decode" in refused(staged(folder, bytes(whole), clips.generated(4.0)))[2]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"video": Video(codec="h265")}, "h264 and not h265"),
        ({"video": Video(width=160, height=90)}, "does not fit"),
        ({"video": Video(width=640, height=360, upscale=True)}, "does not fill"),
        ({"audio": Audio(codec="opus")}, "aac and not opus"),
        ({"audio": None}, "0"),
    ],
)
def test_p3_an_output_that_is_something_else_is_refused(tmp_path, asked, said):
    made = encoded(tmp_path, QUICK, clips.generated())
    spec = msgspec.structs.replace(made.spec, recipe=msgspec.structs.replace(QUICK, **asked))
    job = msgspec.structs.replace(jobfile.read(made.folder / "job.json"), spec=spec)
    jobfile.write(made.folder / "job.json", job)
    assert said in refused(made)[2]


def test_an_output_without_the_sound_of_its_source_is_refused(tmp_path):
    assert "0 sound tracks and not 1" in refused(staged(tmp_path, clips.generated(sound=False), clips.generated()))[2]


def test_p3_a_missing_an_empty_and_a_second_output_are_refused(tmp_path):
    made = staged(tmp_path, b"", clips.generated())
    assert refused(made)
    made.staged.unlink()
    assert "no output" in refused(made)[2]
    made.staged.write_bytes(clips.generated().read_bytes())
    (made.staged.parent / "other.ts").write_bytes(b"x")
    assert refused(made)[:2] == ("user_error", False)


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv"])
def test_a_source_that_is_cut_off_is_an_input_error_although_ffmpeg_is_content(tmp_path, name):
    extra = ("-movflags", "+faststart") if name.endswith("mp4") else ()
    whole = clips.generated(6.0, name=name, extra=(*extra, "-g", "10")).read_bytes()
    source = tmp_path / name
    source.write_bytes(whole[: len(whole) // 2])
    reason, transient, line = refused(encoded(tmp_path, QUICK, source))
    assert (reason, transient) == ("input_error", False)
    assert "long and not 6.0" in line


def test_an_output_of_another_length_than_its_source_is_refused(tmp_path):
    assert refused(staged(tmp_path, clips.generated(2.0), clips.generated(4.0)))[:2] == ("runtime_error", True)
    (folder := tmp_path / "b").mkdir()
    assert refused(staged(folder, clips.generated(4.0), clips.generated(2.0)))[:2] == ("runtime_error", True)


def test_a_source_whose_length_is_only_guessed_is_measured_before_an_output_is_refused(tmp_path):
    # Silence after noise: the bitrate at the start says nothing of the rest.
    source = tmp_path / "in.mp3"
    graph = "anoisesrc=d=4,apad=pad_dur=20,atrim=duration=24"
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", graph, "-q:a", "0", "-write_xing", "0", str(source)]
    subprocess.run(argv, check=True)
    made = encoded(tmp_path, RECIPES["audio"], source)
    verdict = made.verdict()
    assert verdict.ok, verdict.failure
    assert verdict.results.media_s == pytest.approx(24.0, abs=0.5)


def test_a_source_with_more_sound_than_picture_is_no_reason_to_refuse(tmp_path):
    source = tmp_path / "in.mkv"
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=d=1:s=160x90", "-f", "lavfi", "-i", "sine=d=8"]
    subprocess.run([*argv, str(source)], check=True)
    verdict = encoded(tmp_path, QUICK, source).verdict()
    assert verdict.ok, verdict.failure


def test_the_sound_alone_may_be_shorter_than_the_picture_it_came_from(tmp_path):
    source = tmp_path / "in.mkv"
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=d=8:s=160x90", "-f", "lavfi", "-i", "sine=d=1"]
    subprocess.run([*argv, str(source)], check=True)
    verdict = encoded(tmp_path, RECIPES["audio"], source).verdict()
    assert verdict.ok, verdict.failure


def test_a_source_that_has_gone_by_now_is_no_reason_to_refuse(tmp_path):
    source = tmp_path / "in.mp4"
    source.write_bytes(clips.generated().read_bytes())
    made = encoded(tmp_path, QUICK, source)
    source.unlink()
    assert made.verdict().ok


def test_thumbnails_that_are_none_are_refused(tmp_path):
    made = attempt(tmp_path, spec_of(RECIPES["thumbnails"], clips.bikes()), clips.bikes())
    made.staged.mkdir()
    assert refused(made)[:2] == ("input_error", False)
    (made.staged / "00001.jpg").write_bytes(b"\xff\xd8 no picture")
    assert "cannot be decoded" in refused(made)[2]


def test_a_report_that_is_no_json_or_tells_of_nothing_is_refused(tmp_path):
    made = staged(tmp_path, b"{", clips.bikes(), RECIPES["probe"])
    assert "no JSON" in refused(made)[2]
    made.staged.write_bytes(b"{}")
    assert refused(made)[0] == "input_error"


@pytest.mark.parametrize(("name", "content"), [("out.mp4", b"rubbish"), ("out.png", b""), ("out.m3u8", b"#EXTM3U\n")])
def test_a_plain_output_that_is_no_media_is_refused(tmp_path, name, content):
    spec = spec_of(Recipe("", kind="plain"), clips.generated(), arguments=("-i", "{input}", "{output}"))
    made = attempt(tmp_path, spec, clips.generated(), name)
    made.staged.write_bytes(content)
    assert refused(made)


def test_a_plain_output_may_be_a_picture(tmp_path):
    arguments = ("-i", "{input}", "-frames:v", "1", "-update", "1", "{output}")
    spec = spec_of(Recipe("", kind="plain"), clips.generated(), arguments=arguments)
    for number, name in enumerate(("out.png", "out.jpg")):
        (folder := tmp_path / str(number)).mkdir()
        made = attempt(folder, spec, clips.generated(), name)
        assert made.run().returncode == 0
        verdict = made.verdict()
        assert verdict.ok, verdict.failure


def test_quality_is_measured_when_it_is_asked_for(tmp_path):
    (good_folder := tmp_path / "good").mkdir()
    (bad_folder := tmp_path / "bad").mkdir()
    asked = recipe("batch", video={"preset": "ultrafast", "crf": 10, "width": 320, "height": 180, "fps": 10.0})
    good = msgspec.structs.replace(asked, quality=("psnr", "ssim", "vmaf"))
    bad = msgspec.structs.replace(good, video=msgspec.structs.replace(asked.video, crf=45))
    better, worse = (
        encoded(folder, each, clips.generated()).verdict().results
        for folder, each in ((good_folder, good), (bad_folder, bad))
    )
    assert better.psnr_db > 35 > worse.psnr_db > 10
    assert 1 >= better.ssim > 0.97 > worse.ssim > 0.2
    assert better.vmaf is None or better.vmaf > worse.vmaf


def test_quality_of_a_generated_pattern_is_measured_against_the_pattern(tmp_path):
    asked = msgspec.structs.replace(QUICK, quality=("psnr",), video=Video(preset="ultrafast", crf=0))
    results = encoded(tmp_path, asked, Pattern(160, 90, 25.0, 1.0)).verdict().results
    assert results.psnr_db > 60
    assert results.input_bytes is None


# ---- fingerprints ----


def test_a_fingerprint_of_a_file_is_its_size_and_sha256(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    known = fingerprint(tmp_path / "a")
    assert (known.size_bytes, known.digest) == (len(content), hashlib.sha256(content).hexdigest())


def _folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_a_fingerprint_of_a_folder_is_of_names_and_contents_and_not_of_its_place(tmp_path):
    files = {"b": b"2", "a": b"1", "c/d": b"34"}
    first = fingerprint(_folder(tmp_path / "x", files))
    assert first.size_bytes == 4
    assert fingerprint(_folder(tmp_path / "y", dict(reversed(files.items())))) == first
    others = [
        {"b": b"1", "a": b"2", "c/d": b"34"},
        {"b": b"21", "a": b"", "c/d": b"34"},
        {"b": b"2", "a": b"1", "c": b"34"},
        {"b": b"2", "a": b"1"},
    ]
    for number, other in enumerate(others):
        assert fingerprint(_folder(tmp_path / str(number), other)) != first


def test_p12_an_output_that_is_a_link_is_never_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(clips.generated().read_bytes())
    made = attempt(tmp_path, spec_of(QUICK, clips.generated()), clips.generated())
    made.staged.symlink_to(secret)
    assert refused(made)[:2] == ("user_error", False)
    (pictures := tmp_path / "pictures").mkdir()
    (pictures / "00001.jpg").symlink_to(secret)
    for path in (made.staged, pictures):
        with pytest.raises(FarmError):
            fingerprint(path)


def test_a_job_file_is_read_back_as_it_was_written(tmp_path):
    made = attempt(tmp_path, spec_of(recipe("thumbnails"), Pattern()), Pattern())
    job = jobfile.read(made.folder / "job.json")
    assert job.spec == made.spec
    assert job.paths == made.paths
    assert job.spec.recipe.thumbnails == Thumbnails()
    assert [entry.name for entry in made.folder.iterdir()] == ["job.json"]
    (made.folder / "job.json").write_text("{}")
    with pytest.raises(FarmError):
        jobfile.read(made.folder / "job.json")
