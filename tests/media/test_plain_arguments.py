"""P12: plain ffmpeg arguments open the one input and the one output, and nothing else."""

from __future__ import annotations

import pytest

from ffrtmp.arguments import MAX_ARGUMENTS, check_arguments, check_output_name
from ffrtmp.errors import Exit, FarmError

TAKEN = """
-i {input} -c:v libx264 -crf 20 -preset fast -c:a aac -b:a 128k {output}
-ss 00:01:00 -t 10.5 -i {input} -map 0:v -map 0:a? -vf scale=1280:-2,fps=30000/1001 -r 30000/1001 -aspect 16:9 {output}
-i {input} -filter_complex [0:v]split=2[a][b];[b]hflip[c];[a][c]hstack[v] -map [v] {output}
-i {input} -metadata title=AC/DC:/x.mp4 -vf scale=iw/2:ih/2 -an {output}
-i {input} -force_key_frames expr:gte(t,n_forced*2/3) -x264-params keyint=60:min-keyint=60:scenecut=0 -f mp4 {output}
-y -i {input} -vf crop='in_w:in_h-10' -x265-params crf=28:pools=2 -tag:v hvc1 -pix_fmt yuv420p10le {output}
-i {input} -c copy -disposition:a:0 default -map_metadata 0 -bsf:v h264_mp4toannexb -level 4.1 -movflags +faststart {output}
-nostdin -nostats -hide_banner -i {input} -noautorotate -shortest -c:v libvpx-vp9 -b:v 1.5M -row-mt 1 {output}
"""
REFUSED = """
-i {input} -i /etc/passwd {output}
-i concat:a|b {output}
-f lavfi -i movie=/etc/passwd {output}
-f concat -i {input} {output}
-i {input} /tmp/x.mp4 {output}
-i {input} evil.mp4 {output}
-i {input} -an evil {output}
-i {input} -vf movie=/etc/passwd {output}
-i {input} -vf mo'vi'e=x {output}
-i {input} -vf m\\ovie=x {output}
-i {input} -vf null,subtitles=x.srt {output}
-i {input} -vf null,,subtitles=x.srt {output}
-i {input} -vf drawtext@a=textfile=x {output}
-i {input} -vf libvmaf=log_path=x {output}
-i {input} -vf sws_flags=bilinear;movie=x {output}
-i {input} -vf scale=/w=/etc/passwd {output}
-i {input} -vf scale='/w'=x {output}
-i {input} -vf scale=1:/h=x {output}
-i {input} -filter_complex [0:v]movie=x[a] {output}
-i {input} -filter_complex [0:v]null[a];amovie=x {output}
-i {input} -filter_script x {output}
-i {input} -filter_complex_script:v x {output}
-i {input} -/filter:v x {output}
-i {input} -progress x {output}
-report -i {input} {output}
-i {input} -vstats {output}
-i {input} -vstats_file x {output}
-i {input} -passlogfile x {output}
-i {input} -pass 1 {output}
-i {input} -stats x {output}
-i {input} -stats_enc_pre x {output}
-i {input} -x264-params stats=x {output}
-i {input} -x264-params keyint=3:qpfile=x {output}
-i {input} -x265-params csv=x {output}
-i {input} -x265-params recon=x {output}
-i {input} -attach x {output}
-dump_attachment:t:0 x -i {input} {output}
-i {input} -fpre x {output}
-i {input} -f tee x|y {output}
-i {input} -f hls {output}
-i {input} -f segment {output}
-protocol_whitelist file,http -i {input} {output}
-i {input} -init_hw_device vaapi=x {output}
-i {input} -unknown http://x/ {output}
-i {input} -unknown //x/y {output}
-i {input} -unknown a.mp4 {output}
-i {input} -unknown a/b {output}
-i {input} -unknown ../x {output}
-i {input} -unknown file:x {output}
-i {input} -unknown {output} {output}
-i {input}
{output}
-i {input} {output} -c
-i {input} {output} -an
-i {input} {output} {output}
-i {input} -i {input} {output}
-n -i {input} {output}
-stdin -i {input} {output}
"""


@pytest.mark.parametrize("line", TAKEN.strip().splitlines())
def test_ordinary_arguments_are_taken(line):
    check_arguments(line.split())


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_p12_arguments_that_would_open_something_else_are_refused(line):
    with pytest.raises(FarmError) as told:
        check_arguments(line.split())
    assert told.value.code is Exit.USAGE
    assert told.value.hint


def test_p12_endless_and_unprintable_arguments_are_refused():
    for arguments in (
        ["-i", "{input}", *["-an"] * MAX_ARGUMENTS, "{output}"],
        ["-i", "{input}", "-b\n", "1", "{output}"],
    ):
        with pytest.raises(FarmError):
            check_arguments(arguments)


def test_an_extension_that_makes_many_files_is_refused():
    check_output_name("film.final.MP4")
    for name in ("x.m3u8", "x.mpd", "x.sdp", "x", "x.ffconcat"):
        with pytest.raises(FarmError):
            check_output_name(name)
