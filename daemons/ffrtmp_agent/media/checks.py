"""Whether a staged output is what was asked for. Each check returns nothing, or raises `Bad` with the failure.

What is looked at: the streams and their codecs, the picture's size, the length against the source's, and whether the
last seconds really decode, for that is where an output that was cut off shows.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffrtmp.arguments import check_output_name
from ffrtmp.errors import FarmError
from ffrtmp.spec import JobSpec, Recipe, Thumbnails, Video
from ffrtmp.wire import Failure, Reason
from ffrtmp_agent.media import reasons
from ffrtmp_agent.media.probe import Media, Stream, demuxed_s, probe
from ffrtmp_agent.media.sources import input_options, url_of

TOLERANCE_S = 0.5
TOLERANCE = 0.01  # of the length
TAIL_S = 3.0  # how much of the end is decoded
_CODEC_NAMES = {"h265": "hevc"}
_ROUNDING_PX = 2


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


@dataclass(frozen=True, slots=True)
class Expected:
    """What the source lets one expect. Length 0, tracks None: not known, and not checked."""

    length_s: float = 0.0
    tracks: int | None = None  # of sound
    guessed_from: str = ""  # the source, where its container only guesses the length


def expected(spec: JobSpec, source: Media | None, path: str) -> Expected:
    """For a job with this source; None where it is generated, or cannot be read any more (a URL that has gone)."""
    one_track = spec.recipe.container in ("mp3", "flac")
    if spec.source.pattern is not None:
        return Expected(spec.source.pattern.duration_s, 1)
    if source is None:
        return Expected()
    tracks = min(1, len(source.sounds)) if one_track else len(source.sounds)
    return Expected(expected_length_s(spec.recipe, source), tracks, path if source.guessed else "")


def check_media(recipe: Recipe, output: Media, wanted: Expected, log: Sequence[str]) -> None:
    """Streams, size and length of an encoded file; `log` are the engine's last lines, for the reason of a short one."""
    _check_streams(recipe, output, wanted)
    if recipe.video is not None and recipe.video.codec != "copy" and output.video is not None:
        check_size(recipe.video, output.video)
    _check_length(output.duration_s, wanted, log)


def _check_streams(recipe: Recipe, output: Media, wanted: Expected) -> None:
    if recipe.video is not None:
        if output.video is None:
            raise Bad("the output has no picture")
        _check_codec("picture", recipe.video.codec, output.video)
    tracks = 0 if recipe.audio is None else wanted.tracks
    if tracks is not None and len(output.sounds) != tracks:
        raise Bad(f"the output has {len(output.sounds)} sound tracks and not {tracks}")
    if recipe.audio is not None:
        for track in output.sounds:
            _check_codec("sound", recipe.audio.codec, track)


def _check_codec(what: str, asked: str, stream: Stream) -> None:
    if asked != "copy" and stream.codec_name != _CODEC_NAMES.get(asked, asked):
        raise Bad(f"the {what} is {stream.codec_name} and not {asked}")


def check_size(video: Video, stream: Stream) -> None:
    """Within the box (which is turned for an upright picture), and touching it where `upscale` is asked."""
    if not (video.width and video.height):
        return
    size = f"{stream.width}x{stream.height}"
    box = (video.width, video.height) if stream.width >= stream.height else (video.height, video.width)
    room = (box[0] - stream.width, box[1] - stream.height)
    if min(room) < 0:
        raise Bad(f"the picture is {size} and does not fit into {box[0]}x{box[1]}")
    if video.upscale and min(room) > _ROUNDING_PX:
        raise Bad(f"the picture is {size} and does not fill {box[0]}x{box[1]}")


def _check_length(got_s: float, wanted: Expected, log: Sequence[str]) -> None:
    if got_s <= 0:
        raise Bad("the output has no length")
    wanted_s = wanted.length_s
    if differs(got_s, wanted_s) and wanted.guessed_from:
        wanted_s = demuxed_s(wanted.guessed_from)
    if differs(got_s, wanted_s):
        what = f"the output is {got_s:.2f} s long and not {wanted_s:.2f} s"
        raise _cut_off(what, log) if got_s < wanted_s else Bad(what)


def _cut_off(what: str, log: Sequence[str]) -> Bad:
    """Too short: because the source broke off, or is damaged, or for a reason that nobody told."""
    failure = reasons.without_ranges(log) or reasons.by_log(log, (reasons.NETWORK, (reasons.CUT_OFF,)))
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
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-progress", "pipe:1", "-xerror", *input_options(str(path))]
    argv += ["-ss", f"{start_s:.3f}", "-i", url_of(str(path)), "-map", stream, "-f", "null", "-"]
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


def check_pictures(folder: Path, asked: Thumbnails) -> None:
    """At least one picture, none empty, the first and the last decodable."""
    pictures = sorted(folder.iterdir()) if folder.is_dir() else []
    if not pictures:
        raise Bad("no picture was made", reason="input_error", transient=False, hint="the input has no picture")
    for picture in pictures:
        if picture.suffix != f".{asked.format}" or picture.stat().st_size == 0:
            raise Bad(f"{picture.name} is no picture")
    for picture in {pictures[0], pictures[-1]}:
        _check_picture(picture)


def _check_picture(path: Path) -> None:
    said, amount = _decode(path, "0:v:0", 0.0)
    if said or not amount:
        raise Bad(f"the picture {path.name} cannot be decoded: {reasons.told(said)}")


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
    else:
        _check_picture(path)
    return media
