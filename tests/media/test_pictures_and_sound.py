"""What the first set of media makes of pictures and sound: one test for each row of docs/media.md, by real encodes."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import clips
import msgspec
import pytest
from media.bench import RECIPES, attempt, encoded, recipe, spec_of

from ffrtmp.errors import FarmError
from ffrtmp.spec import Audio, Limits, Pattern, Recipe, Video
from ffrtmp_agent.jobfile import Paths
from ffrtmp_agent.media import commands
from ffrtmp_agent.media.encoders import encoder_options
from ffrtmp_agent.media.probe import demuxed_s, duration_s, frame_rate, probe

QUICK = Video(codec="h264", width=320, height=180, fps=30.0, crf=35, preset="ultrafast")
SMALL = Pattern(160, 90, 25.0, 1.0)


def quick(**changes) -> Recipe:
    """A scenario that encodes in no time: a box of 320x180."""
    video = msgspec.structs.replace(QUICK, **changes)
    return Recipe("quick", video=video, audio=Audio(bitrate_bps=64_000))


def size_of(made) -> tuple[int, int, str]:
    video = made.output().video
    return video.width, video.height, video.sample_aspect_ratio


def test_1080p_h264_of_bigbuckbunny_is_1920x1080_h264_and_aac_of_its_length(tmp_path):
    made = encoded(tmp_path, recipe("1080p-h264", video={"preset": "ultrafast"}), clips.bigbuckbunny())
    output = made.output()
    assert size_of(made) == (1920, 1080, "1:1")
    assert (output.video.codec_name, output.sounds[0].codec_name) == ("h264", "aac")
    assert output.duration_s == pytest.approx(5.28, abs=0.1)
    assert made.verdict().ok


def test_a_picture_is_never_enlarged_unless_the_scenario_asks_for_it(tmp_path):
    made = encoded(tmp_path, recipe("batch", video={"preset": "ultrafast"}), clips.bikes())
    assert size_of(made) == (640, 272, "1:1")
    assert made.verdict().ok


@pytest.mark.parametrize(
    ("width", "height", "upscale", "expected"),
    [
        (640, 360, False, (320, 180)),
        (640, 272, False, (320, 136)),  # wide: the width fills the box
        (480, 360, False, (240, 180)),  # 4:3: the height does
        (360, 640, False, (180, 320)),  # upright: the box is turned
        (101, 51, False, (100, 50)),  # odd sides become even ones
        (160, 90, True, (320, 180)),
        (64, 128, True, (160, 320)),
        (400, 400, False, (180, 180)),
    ],
)
def test_a_picture_is_fitted_into_the_box_with_its_aspect(tmp_path, width, height, upscale, expected):
    # testsrc2 makes even sides only, and so does 4:2:0
    source = clips.generated(
        0.2,
        width,
        height,
        sound=False,
        name="size.mkv",
        extra=("-vf", f"scale={width}:{height},setsar=1", "-pix_fmt", "yuv444p"),
    )
    made = encoded(tmp_path, quick(upscale=upscale), source)
    assert size_of(made) == (*expected, "1:1")
    assert made.verdict().ok


def test_pixels_that_are_not_square_become_square(tmp_path):
    source = clips.generated(0.2, 144, 120, sound=False, extra=("-vf", "setsar=16/15"))
    assert size_of(encoded(tmp_path, quick(), source)) == (152, 120, "1:1")


def test_a_rotated_clip_stands_upright(tmp_path):
    turned = tmp_path / "turned.mp4"
    argv = ["ffmpeg", "-v", "error", "-display_rotation", "90", "-i", str(clips.generated()), "-c", "copy", str(turned)]
    if subprocess.run(argv, capture_output=True, check=False).returncode != 0:  # ffmpeg 5.1 says it in another way
        argv = ["ffmpeg", "-v", "error", "-y", "-i", str(clips.generated()), "-c", "copy"]
        subprocess.run([*argv, "-metadata:s:v:0", "rotate=90", str(turned)], check=True)
    assert size_of(encoded(tmp_path, quick(), turned)) == (180, 320, "1:1")


@pytest.mark.parametrize(
    ("source_fps", "bound", "expected"), [(50, 30, 30), (24, 30, 24), (25, 0, 25), (12.5, 60, 12.5)]
)
def test_the_frame_rate_is_an_upper_bound(tmp_path, source_fps, bound, expected):
    made = encoded(tmp_path, quick(fps=float(bound)), Pattern(160, 90, source_fps, 1.0))
    assert frame_rate(made.output().video) == pytest.approx(expected, rel=0.01)
    assert made.verdict().ok


@pytest.mark.parametrize(
    ("codec", "container", "sound", "names"),
    [
        ("h264", "mp4", "aac", ("h264", "aac")),
        ("h265", "mp4", "aac", ("hevc", "aac")),
        ("h265", "mov", "mp3", ("hevc", "mp3")),
        ("h264", "mkv", "flac", ("h264", "flac")),
        ("vp9", "webm", "opus", ("vp9", "opus")),
        ("av1", "webm", "opus", ("av1", "opus")),
        ("h264", "mp4", "opus", ("h264", "opus")),
        ("h264", "mp4", "flac", ("h264", "flac")),
    ],
)
def test_every_codec_and_container_of_the_first_set_encodes_and_verifies(tmp_path, codec, container, sound, names):
    preset = "" if codec in ("vp9", "av1") else "ultrafast"
    asked = Recipe(
        "any", video=Video(codec=codec, preset=preset, gop_s=1), audio=Audio(codec=sound), container=container
    )
    made = encoded(tmp_path, asked, SMALL)
    output = made.output()
    assert (output.video.codec_name, output.sounds[0].codec_name) == names
    assert made.verdict().ok


def test_h265_in_mp4_has_the_tag_that_players_of_apple_want(tmp_path):
    made = encoded(tmp_path, quick(codec="h265"), SMALL)
    assert b"hvc1" in made.staged.read_bytes()


def test_an_mp4_can_be_played_while_it_loads(tmp_path):
    content = encoded(tmp_path, quick(), SMALL).staged.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("name", ["480p60-h264", "480p30-h265", "480p30-av1", "720p30-vp9"])
def test_packaged_scenarios_give_what_their_names_say_from_a_pattern(tmp_path, name):
    asked = RECIPES[name]
    made = encoded(tmp_path, asked, Pattern(320, 180, 25.0, 0.3))
    assert size_of(made)[:2] == (asked.video.width, asked.video.height)
    assert made.verdict().ok


def test_a_source_without_sound_stays_without(tmp_path):
    made = encoded(tmp_path, quick(), clips.generated(0.5, sound=False))
    assert made.output().sounds == ()
    assert made.verdict().ok


def test_several_sound_tracks_are_kept_and_subtitles_and_data_are_left_out(tmp_path):
    subtitles = tmp_path / "a.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    source = tmp_path / "tracks.mkv"
    argv = ["ffmpeg", "-v", "error", "-i", str(clips.generated()), "-i", str(clips.generated()), "-i", str(subtitles)]
    argv += ["-map", "0:v", "-map", "0:a", "-map", "1:a", "-map", "2:s", "-c:v", "copy", "-c:a", "aac", "-c:s", "srt"]
    subprocess.run([*argv, "-metadata:s:a:1", "language=deu", str(source)], check=True)
    made = encoded(tmp_path, quick(), source)
    output = made.output()
    assert [stream.codec_type for stream in output.streams] == ["video", "audio", "audio"]
    assert output.sounds[1].tags["language"] == "deu"
    assert made.verdict().ok


def test_surround_sound_stays_surround_in_aac_and_in_opus(tmp_path):
    for number, (container, codec) in enumerate((("m4a", "aac"), ("ogg", "opus"))):
        asked = Recipe("sound", kind="audio", audio=Audio(codec=codec, bitrate_bps=0), container=container)
        (folder := tmp_path / str(number)).mkdir()
        layout = ("-c:a", "flac", "-af", "aformat=channel_layouts=5.1(side)")
        made = encoded(folder, asked, clips.generated(0.5, name="surround.mkv", extra=layout))
        assert [stream.codec_type for stream in made.output().streams] == ["audio"]
        shown = subprocess.run(
            ["ffprobe", "-v", "error", "-show_entries", "stream=channels", "-of", "csv=p=0", made.paths.staged],
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.strip() == "6"
        assert made.verdict().ok


@pytest.mark.parametrize(("container", "codec"), [("mp3", "mp3"), ("flac", "flac"), ("ogg", "opus"), ("m4a", "aac")])
def test_the_sound_alone_in_each_container(tmp_path, container, codec):
    asked = Recipe("sound", kind="audio", audio=Audio(codec=codec), container=container)
    made = encoded(tmp_path, asked, clips.generated())
    assert [stream.codec_name for stream in made.output().streams] == [codec]
    assert made.verdict().ok


def test_thumbnails_are_a_folder_of_pictures_also_of_a_clip_shorter_than_their_distance(tmp_path):
    made = encoded(tmp_path, RECIPES["thumbnails"], clips.bikes())
    assert [picture.name for picture in made.staged.iterdir()] == ["00001.jpg"]
    assert made.verdict().ok
    (folder := tmp_path / "b").mkdir()
    made = encoded(
        folder, recipe("thumbnails", thumbnails={"every_s": 2.0, "limit": 4, "format": "png"}), clips.bikes()
    )
    assert sorted(picture.name for picture in made.staged.iterdir()) == [f"0000{n}.png" for n in (1, 2, 3, 4)]
    picture = probe(str(made.staged / "00002.png")).video
    assert (picture.width, picture.height) == (320, 136)
    assert made.verdict().ok


def test_a_probe_is_a_json_report(tmp_path):
    made = encoded(tmp_path, RECIPES["probe"], clips.bikes())
    report = msgspec.json.decode(made.staged.read_bytes())
    assert report["streams"][0]["width"] == 640
    assert made.verdict().ok


def test_a_generated_pattern_has_the_size_rate_and_length_that_was_asked(tmp_path):
    made = encoded(
        tmp_path, Recipe("any", video=Video(preset="ultrafast"), audio=Audio()), Pattern(192, 108, 12.5, 2.0)
    )
    output = made.output()
    assert (output.video.width, output.video.height, frame_rate(output.video)) == (192, 108, 12.5)
    assert output.duration_s == pytest.approx(2.0, abs=0.1)
    assert len(output.sounds) == 1


def test_a_file_with_a_name_full_of_signs_is_just_a_file(tmp_path):
    (folder := tmp_path / "a 'b' $(c) %d;").mkdir()
    source = folder / "-i %03d: \"x\" 'y'.mp4"
    source.write_bytes(clips.generated(0.5).read_bytes())
    made = attempt(folder, spec_of(quick(), source), source, "%d 'out'.mp4")
    assert made.run().returncode == 0, (made.folder / "log").read_text()
    assert made.verdict().ok
    (other := folder / "pictures").mkdir()
    assert encoded(other, RECIPES["thumbnails"], source).verdict().ok


def test_plain_arguments_run_with_the_input_and_the_output_in_their_places(tmp_path):
    source = clips.generated()
    spec = spec_of(Recipe("", kind="plain"), source)
    arguments = ("-ss", "0.5", "-i", "{input}", "-t", "1", "-vf", "hflip", "-preset", "ultrafast", "{output}")
    made = attempt(tmp_path, msgspec.structs.replace(spec, arguments=arguments), source, "flipped.mkv")
    assert made.run().returncode == 0
    assert made.output().duration_s == pytest.approx(1.0, abs=0.1)
    assert made.verdict().ok


def test_p12_plain_arguments_are_checked_by_the_agent_too(tmp_path):
    spec = spec_of(Recipe("", kind="plain"), clips.generated())
    bad = msgspec.structs.replace(spec, arguments=("-i", "{input}", "-vf", "movie=/etc/passwd", "{output}"))
    with pytest.raises(FarmError):
        commands.build(bad, Paths("/in", "/s", "/o.mp4", "/s/o.mp4"))


def test_the_command_file_can_be_pasted(tmp_path):
    spec = spec_of(quick(), Path("/in put.mp4"))
    paths = Paths("/in put.mp4", "/s", "/o.mp4", "/s/it's.mp4")
    text = commands.command_file(spec, paths)
    last = text.splitlines()[-1]
    assert text.startswith("#!/bin/sh\n")
    assert shlex.split(last.removeprefix("exec ")) == commands.build(spec, paths)
    assert commands.build(spec, paths)[0] == "ffmpeg"


def test_a_cpu_limit_bounds_the_threads():
    asked = msgspec.structs.replace(quick(), limits=Limits(cpu_milli=1500))
    argv = commands.build(spec_of(asked, Path("/i.mp4")), Paths("/i.mp4", "/s", "/o", "/s/o"))
    assert [argv[index + 1] for index, word in enumerate(argv) if word == "-threads"] == ["2", "2"]


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("h264_nvenc", "-preset p2 -rc vbr -cq 24 -b:v 0 -maxrate 4000000 -bufsize 8000000 -profile:v high"),
        ("hevc_nvenc", "-preset p2 -rc vbr -cq 24 -b:v 0 -maxrate 4000000 -bufsize 8000000 -profile:v high"),
        ("h264_qsv", "-preset veryfast -global_quality 24 -maxrate 4000000 -bufsize 8000000 -profile:v high"),
        ("h264_vaapi", "-rc_mode CQP -qp 24 -profile:v high"),
        ("libx264", "-preset veryfast -crf 24 -maxrate 4000000 -bufsize 8000000 -profile:v high"),
    ],
)
def test_hardware_encoders_get_the_same_wishes_in_their_own_words(encoder, expected):
    video = Video(encoder=encoder, preset="veryfast", crf=24, max_bitrate_bps=4_000_000, profile="high")
    assert " ".join(encoder_options(video, encoder)) == expected
    argv = commands.build(spec_of(Recipe("x", video=video), Path("/i")), Paths("/i", "/s", "/o", "/s/o"))
    uploads = "hwupload" in argv[argv.index("-vf") + 1]
    assert uploads == encoder.endswith("vaapi")
    assert ("-init_hw_device" in argv) == encoder.endswith(("vaapi", "qsv"))


def test_the_expected_length_is_known_before_the_start(tmp_path):
    assert duration_s(str(clips.bikes())) == pytest.approx(10.0, abs=0.01)
    assert duration_s("", pattern=SMALL) == 1.0
    assert duration_s(str(tmp_path / "none.mp4")) == 0.0
    assert demuxed_s(str(clips.bikes())) == pytest.approx(10.0, abs=0.2)
