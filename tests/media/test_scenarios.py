"""Scenarios as files: what is there, what a user may write, and what a mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffrtmp import scenario
from ffrtmp.errors import Exit, FarmError
from ffrtmp.spec import Pattern

SIZES = {"4K": (3840, 2160), "1080p": (1920, 1080), "720p": (1280, 720), "480p": (854, 480)}
FAMILY = [f"{size}{fps}-{codec}" for size in SIZES for fps in (60, 30) for codec in ("h264", "h265")]
OTHERS = ["1080p60-vp9", "720p30-vp9", "480p30-av1", "1080p-h264", "720p-h264", "batch", "audio", "thumbnails", "probe"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a user's own scenarios."""
    own = tmp_path / "scenarios"
    own.mkdir()
    return own


def load(folder: Path) -> dict:
    return scenario.load([scenario.PACKAGED, folder])


def test_every_scenario_that_the_farm_promises_is_there_and_no_other():
    assert sorted(scenario.load([scenario.PACKAGED])) == sorted(FAMILY + OTHERS)


@pytest.mark.parametrize("name", FAMILY)
def test_a_name_says_size_rate_and_codec(name):
    video = scenario.load([scenario.PACKAGED])[name].video
    size = next(size for size in SIZES if name.startswith(size))
    assert (video.width, video.height) == SIZES[size]
    assert f"{size}{video.fps:g}-{video.codec}" == name
    assert video.upscale, "a rendition with a size in its name is of that size"


def test_a_short_name_is_the_scenario_that_it_stands_for():
    recipes = scenario.load([scenario.PACKAGED])
    assert recipes["1080p-h264"].video == recipes["1080p30-h264"].video
    assert recipes["1080p-h264"].scenario == "1080p-h264"


def test_names_are_found_in_any_case_and_a_wrong_one_names_the_nearest():
    recipes = scenario.load([scenario.PACKAGED])
    assert scenario.find(recipes, "4k60-H264").scenario == "4K60-h264"
    with pytest.raises(FarmError) as told:
        scenario.find(recipes, "1080p-h246")
    assert told.value.code is Exit.NOT_FOUND
    assert "1080p-h264" in told.value.hint


@pytest.mark.parametrize(
    ("written", "bps"),
    [
        ("10M", 10_000_000),
        ("800k", 800_000),
        ("2.5M", 2_500_000),
        ("1G", 1_000_000_000),
        ("6Mbit/s", 6_000_000),
        (0, 0),
    ],
)
def test_defect_10M_is_ten_megabits_and_never_ten_kilobits(written, bps):
    assert scenario.parse_bitrate_bps(written) == bps


@pytest.mark.parametrize("written", ["", "fast", "10MB", "10 m", "-1M", "1e6", True])
def test_a_bitrate_that_could_be_read_in_two_ways_is_refused(written):
    with pytest.raises(ValueError, match="write it as"):
        scenario.parse_bitrate_bps(written)


def test_quantities_are_written_as_people_write_them(folder):
    (folder / "mine.toml").write_text(
        'kind = "file"\n[video]\nbitrate = "10M"\n[audio]\nbitrate = "96k"\n'
        '[needs]\ncpu = 1.5\nmemory = "512MiB"\nscratch = "2GiB"\n[limits]\ncpu = 2\nfile = "1GiB"\nnice = 5\n'
    )
    mine = load(folder)["mine"]
    assert (mine.video.bitrate_bps, mine.audio.bitrate_bps) == (10_000_000, 96_000)
    assert (mine.needs.cpu_milli, mine.needs.memory_bytes, mine.needs.scratch_bytes) == (1500, 512 << 20, 2 << 30)
    assert (mine.limits.cpu_milli, mine.limits.file_bytes, mine.limits.nice) == (2000, 1 << 30, 5)
    assert mine.needs.encoders == ("libx264",)


def test_a_later_folder_overrides_an_earlier_one_whatever_the_case_of_the_name(folder):
    (folder / "720P-H264.toml").write_text('alias = "480p30-h264"\ncontainer = "mkv"\n[video]\ncrf = 30\n')
    recipes = load(folder)
    assert "720p-h264" not in recipes
    mine = scenario.find(recipes, "720p-h264")
    assert (mine.video.height, mine.video.crf, mine.video.max_bitrate_bps, mine.container) == (
        480,
        30,
        1_500_000,
        "mkv",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "file"\n[video]\nwidht = 3\n', "widht"),
        ('kind = "file"\n[video]\nwidth = "big"\nheight = 2\n', "video.width: Expected `int`"),
        ('kind = "file"\n[video]\ncodec = "mpeg2"\n', "video.codec"),
        ('kind = "file"\n[video]\nbitrate = "10MB"\n', "video.bitrate"),
        ('kind = "file"\n[needs]\nmemory = "much"\n', "needs.memory"),
        ('kind = "file"\n[needs]\ncpu = "two"\n', "needs.cpu"),
        ('kind = "file"\n', "video"),
        ('kind = "file"\n[video]\nwidth = 1281\nheight = 720\n', "even"),
        ('kind = "file"\n[video]\nwidth = 1280\n', "go together"),
        ('kind = "file"\ncontainer = "webm"\n[video]\ncodec = "h264"\n', "webm cannot hold h264"),
        ('kind = "film"\n', "kind"),
        ('kind = "live"\n[video]\n', "kind"),
        ('alias = "nothing"\n', 'there is no scenario "nothing"'),
        ('alias = "mine"\n', "leads back"),
        ("kind = \n", "line 1"),
    ],
)
def test_a_mistake_names_the_file_and_the_field(folder, text, said):
    (folder / "mine.toml").write_text(text)
    with pytest.raises(FarmError) as told:
        load(folder)
    assert "mine.toml" in told.value.what
    assert said in told.value.what
    assert told.value.code is Exit.CONFIG


def test_a_folder_that_is_not_there_is_empty(tmp_path):
    assert scenario.load([tmp_path / "none"]) == {}


def test_a_submission_without_input_or_output_gets_a_pattern_of_a_minute_and_an_extension():
    recipes = scenario.load([scenario.PACKAGED])
    assert scenario.pattern(recipes["720p60-h264"]) == Pattern(1280, 720, 60.0, 60.0)
    assert scenario.pattern(recipes["probe"]) == Pattern(duration_s=60.0)
    assert [scenario.extension(recipes[name]) for name in ("batch", "480p30-av1", "audio", "thumbnails", "probe")] == [
        "mp4",
        "webm",
        "m4a",
        "",
        "json",
    ]
