"""Whether a staged output is what was asked for. Each check returns nothing, or raises `Bad` with the failure.

What is looked at: the streams and their codecs, the picture's size, the length against the source's, and whether the
last seconds really decode, for that is where an output that was cut off shows.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ffrtmp.arguments import check_output_name
from ffrtmp.errors import FarmError
from ffrtmp.spec import JobSpec, Recipe, Thumbnails, Video
from ffrtmp.wire import Failure, Reason
from ffrtmp_agent.media import reasons
from ffrtmp_agent.media.probe import Media, Stream, demuxed_s, probe

TOLERANCE_S = 0.5
TOLERANCE = 0.01  # of the length
TAIL_S = 3.0  # how much of the end is decoded
_CODEC_NAMES = {"h265": "hevc"}
_PIXEL_ROUNDING = 2


class Bad(Exception):
    """The output is not what was asked for."""

    def __init__(self, what: str, *, reason: Reason = "runtime_error", transient: bool = True, hint: str = "") -> None:
        """By default another try may help: nothing shows that the source or the user is at fault."""
        super().__init__(what)
        self.failure = Failure(reason, transient, what, hint)


def check_alone(staging: Path, staged: Path) -> None:
    """The output is there and nothing else is: what lies beside it would be lost."""
    others = sorted(entry.name for entry in staging.iterdir() if entry.name != staged.name)
    if others:
        text = f"it wrote {others[0]} beside its output"
        raise Bad(text, reason="user_error", transient=False, hint="use arguments that write one file")
    if not staged.exists():
        raise Bad("ffmpeg ended well and wrote no output")


def check_media(spec: JobSpec, output: Media, source: Media | None, source_path: str, log: Sequence[str]) -> None:
    """Streams, size and length of an encoded file. `source` is None for a generated pattern."""
    _check_streams(spec.recipe, output, source)
    if spec.recipe.video is not None and spec.recipe.video.codec != "copy" and output.video is not None:
        check_size(spec.recipe.video, output.video)
    _check_length(spec, output, source, source_path, log)


def _check_streams(recipe: Recipe, output: Media, source: Media | None) -> None:
    if recipe.video is not None:
        if output.video is None:
            raise Bad("the output has no picture")
        _check_codec("picture", recipe.video.codec, output.video)
    if recipe.audio is None:
        if output.sounds:
            raise Bad("the output has sound that was not asked for")
        return
    for track in output.sounds:
        _check_codec("sound", recipe.audio.codec, track)
    wanted = 1 if source is None else len(source.sounds)
    if recipe.container in ("mp3", "flac"):
        wanted = min(1, wanted)
    if len(output.sounds) != wanted:
        raise Bad(f"the output has {len(output.sounds)} sound tracks and not {wanted}")


def _check_codec(what: str, asked: str, stream: Stream) -> None:
    if asked != "copy" and stream.codec_name != _CODEC_NAMES.get(asked, asked):
        raise Bad(f"the {what} is {stream.codec_name} and not {asked}")


def check_size(video: Video, stream: Stream) -> None:
    """Within the box (which is turned for an upright picture), and touching it where `upscale` is asked."""
    if not (video.width and video.height):
        return
    size = f"{stream.width}x{stream.height}"
    width, height = video.width, video.height
    if stream.width < stream.height:
        width, height = height, width
    if stream.width > max(width, height) or stream.height > max(width, height) or stream.width * stream.height == 0:
        raise Bad(f"the picture is {size} and does not fit into {video.width}x{video.height}")
    box = (width, height) if stream.width >= stream.height else (min(width, height), max(width, height))
    if stream.width > box[0] or stream.height > box[1]:
        raise Bad(f"the picture is {size} and does not fit into {video.width}x{video.height}")
    short = (box[0] - stream.width, box[1] - stream.height)
    if video.upscale and min(short) > _PIXEL_ROUNDING:
        raise Bad(f"the picture is {size} and does not fill {video.width}x{video.height}")


def _check_length(spec: JobSpec, output: Media, source: Media | None, path: str, log: Sequence[str]) -> None:
    got_s = output.duration_s
    if got_s <= 0:
        raise Bad("the output has no length")
    if source is None:
        expected_s = spec.source.pattern.duration_s if spec.source.pattern else 0.0
    else:
        expected_s = expected_length_s(spec.recipe, source)
    if not differs(got_s, expected_s):
        return
    if source is not None and source.guessed:
        expected_s = demuxed_s(path)  # the container only guessed
        if not differs(got_s, expected_s):
            return
    what = f"the output is {got_s:.2f} s long and not {expected_s:.2f} s"
    if got_s < expected_s:
        raise _cut_off(what, log)
    raise Bad(what)


def _cut_off(what: str, log: Sequence[str]) -> Bad:
    """Too short: because the source broke off, or is damaged, or for a reason that nobody told."""
    network = [rule for group in reasons.TABLE for rule in group if rule.reason == "network_error"]
    failure = reasons.by_log(log, (network, (reasons.CUT_OFF,)))
    if failure is None:
        return Bad(what)
    return Bad(f"{failure.line} ({what})", reason=failure.reason, transient=failure.transient, hint=failure.hint)


def expected_length_s(recipe: Recipe, source: Media) -> float:
    """The length of what is taken from the source: its longest taken stream, or the whole. 0: not known."""
    taken = [source.video] if recipe.video is not None and source.video is not None else []
    taken += list(source.sounds) if recipe.audio is not None else []
    lengths = [stream.duration_s for stream in taken]
    return max(lengths) if lengths and all(lengths) else source.duration_s


def differs(got_s: float, expected_s: float) -> bool:
    """Whether a length is off by more than the tolerance; an unknown one (0) never is."""
    return expected_s > 0 and abs(got_s - expected_s) > max(TOLERANCE_S, TOLERANCE * expected_s)


def check_end(path: Path, output: Media) -> None:
    """Decode the last seconds of each stream for real; raises Bad when nothing comes out of them or something is wrong."""
    for kind, stream in (("V", output.video), ("a", output.sounds[0] if output.sounds else None)):
        if stream is None:
            continue
        length_s = stream.duration_s or output.duration_s
        said, amount = _decode(path, f"0:{kind}:0", max(0.0, length_s - TAIL_S))
        if said:
            raise Bad(f"the output's end cannot be decoded: {reasons.told(said)}")
        if not amount:
            raise Bad("the output's end has nothing to decode")


def _decode(path: Path, stream: str, start_s: float) -> tuple[str, int]:
    """(the first complaint, how much came out: frames or microseconds) of a stream from `start_s` to its end."""
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-progress", "pipe:1", "-xerror", "-protocol_whitelist", "file"]
    argv += ["-ss", f"{start_s:.3f}", "-i", f"file:{path}", "-map", stream, "-f", "null", "-"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    said = next((line for line in done.stderr.splitlines() if line.strip()), "")
    if done.returncode != 0 and not said:
        said = f"ffmpeg ended with status {done.returncode}"
    amount = 0
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        if key in ("frame", "out_time_us") and value.strip().lstrip("-").isdigit():
            amount = max(amount, int(value))
    return said, amount


def check_pictures(folder: Path, asked: Thumbnails) -> int:
    """At least one picture, none empty, the first and the last decodable; how many there are."""
    pictures = sorted(folder.iterdir()) if folder.is_dir() else []
    if not pictures:
        raise Bad("no picture was made", reason="input_error", transient=False, hint="the input has no picture")
    for picture in pictures:
        if picture.suffix != f".{asked.format}" or picture.stat().st_size == 0:
            raise Bad(f"{picture.name} is no picture")
    for picture in {pictures[0], pictures[-1]}:
        said, amount = _decode(picture, "0:v:0", 0.0)
        if said or not amount:
            raise Bad(f"the picture {picture.name} cannot be decoded: {reasons.told(said)}")
    return len(pictures)


def check_report(path: Path) -> None:
    """The output of kind probe: JSON that tells of at least one stream."""
    try:
        report = json.loads(path.read_bytes())
    except ValueError as error:
        raise Bad(f"the report is no JSON: {error}") from error
    if not isinstance(report, dict) or not report.get("streams"):
        raise Bad("no stream was found", reason="input_error", transient=False, hint="the input is no media file")


def check_plain(path: Path) -> Media:
    """The output of plain arguments: something that ffprobe reads, a picture or with a length."""
    check_output_name(path.name)
    try:
        media = probe(str(path))
    except FarmError as error:
        raise Bad(f"the output cannot be read: {error.what}") from error
    if not media.streams:
        raise Bad("the output has no stream")
    if media.duration_s > 0:
        check_end(path, media)
    elif media.video is None:
        raise Bad("the output has no length")
    return media
