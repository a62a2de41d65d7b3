"""Progress as users see it: percent, rate, speed and the time that is left, out of ffmpeg's own report."""

from __future__ import annotations

import clips
import pytest
from media.bench import encoded, recipe

from ffrtmp_agent.media import progress

BLOCK = """frame=120
fps=59.50
stream_0_0_q=28.0
bitrate=1205.1kbits/s
total_size=262192
out_time_us=4000000
out_time_ms=4000000
out_time=00:00:04.000000
dup_frames=1
drop_frames=2
speed=2.5x
progress=continue
"""


def test_defect_progress_is_not_always_zero():
    seen = progress.parse(BLOCK, 10.0)
    assert (seen.percent, seen.eta_s, seen.fps, seen.speed) == (40.0, pytest.approx(2.4), 59.5, 2.5)
    assert (seen.frames, seen.bitrate_bps, seen.duplicated, seen.dropped) == (120, 1_205_100, 1, 2)


def test_the_last_complete_block_counts_wherever_the_tail_is_cut():
    later = BLOCK.replace("=4000000", "=6000000").replace("frame=120", "frame=180")
    for start in range(0, len(BLOCK), 7):
        for unfinished in ("", "frame=999\nout_time_us=9000000\n", "frame=999\nprogress=cont"):
            seen = progress.parse((BLOCK[start:] + later + unfinished).encode(), 10.0)
            assert (seen.frames, seen.out_time_s) == (180, 6.0)


@pytest.mark.parametrize(
    ("changes", "out_time_s"),
    [
        ({"out_time_us=4000000": "out_time_us=N/A", "out_time=00:00:04.000000": "out_time=N/A"}, 0.0),
        ({"out_time_us=4000000": "out_time_us=-21333", "out_time=00": "out_time=-00"}, 0.0),
        ({"out_time_us=4000000\n": "", "out_time=00:00:04.000000": "out_time=01:02:03.500000"}, 3723.5),
        ({"speed=2.5x": "speed=N/A", "bitrate=1205.1kbits/s": "bitrate=N/A", "fps=59.50": "fps=0.00"}, 4.0),
    ],
)
def test_values_that_ffmpeg_does_not_know_yet_do_no_harm(changes, out_time_s):
    text = BLOCK
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    assert progress.parse(text, 10.0).out_time_s == out_time_s


def test_nothing_is_said_before_the_first_block(tmp_path):
    assert progress.parse("frame=1\nfps=2\n", 10.0) is None
    assert progress.parse(b"\xff\x00=\n", 10.0) is None
    assert progress.read(tmp_path / "progress", 10.0) is None


def test_a_real_encode_ends_at_its_full_length(tmp_path):
    made = encoded(tmp_path, recipe("batch", video={"preset": "ultrafast"}), clips.generated())
    seen = progress.read(made.folder / "progress", 2.0)
    assert (seen.percent, seen.frames) == (pytest.approx(100.0, abs=3), 50)
