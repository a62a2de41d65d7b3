"""The engine's command line: pure functions from what was asked and where it lies to a list of arguments.

Nothing is probed here, so that the same job gives the same command wherever it runs; what depends on the source (its
size, its rate, whether it has sound) is left to ffmpeg's own expressions. What every command has in common:

* progress goes to standard output, the log to standard error, and standard input is closed;
* the picture is fitted into the scenario's box: display aspect kept, sides even, pixels square, never enlarged unless
  `upscale` says so, and the box is turned for a picture that stands upright;
* the first real picture stream and all sound tracks are taken; subtitles, data and cover art are left out.
"""

from __future__ import annotations

import math
import shlex
from pathlib import PurePath

from ffrtmp.arguments import INPUT, OUTPUT, check_arguments, check_output_name
from ffrtmp.errors import FarmError
from ffrtmp.scenario import encoder_of
from ffrtmp.spec import Audio, JobSpec, Recipe, Thumbnails, Video
from ffrtmp_agent.jobfile import Paths
from ffrtmp_agent.media.encoders import device_options, encoder_options, upload_filter
from ffrtmp_agent.media.sources import input_options, open_source, url_of

ENGINE = ("ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "info", "-progress", "pipe:1", "-y")
MUXERS = {"mp4": "mp4", "mov": "mov", "m4a": "ipod", "mkv": "matroska", "webm": "webm", "ogg": "ogg"}
SINGLE_TRACK = frozenset({"mp3", "flac"})  # containers of one sound track
_SOUND_ENCODERS = {"aac": "aac", "opus": "libopus", "flac": "flac", "mp3": "libmp3lame", "copy": "copy"}
# libopus refuses other layouts than these, e.g. 5.1(side); the nearest one is taken.
_OPUS_LAYOUTS = "aformat=channel_layouts=mono|stereo|3.0|quad|5.0|5.1|6.1|7.1"


def build(spec: JobSpec, paths: Paths) -> list[str]:
    """The command line of an attempt; raises FarmError for what this set of media cannot do."""
    match spec.recipe.kind:
        case "file":
            return _encode(spec, paths)
        case "audio":
            return _sound_only(spec, paths)
        case "thumbnails":
            return _thumbnails(spec, paths)
        case "probe":
            return _probe(spec, paths)
        case "plain":
            return _plain(spec, paths)
        case other:
            raise FarmError(f"this agent cannot do jobs of kind {other}", hint="install a newer ffrtmp-agent")


def command_file(spec: JobSpec, paths: Paths) -> str:
    """The text of an attempt's `command` file for `build(spec, paths)`; raises FarmError as it does."""
    return render_command(build(spec, paths), folder=paths.staged if spec.recipe.kind == "thumbnails" else "")


def render_command(argv: list[str], *, folder: str = "") -> str:
    """A shell script that a user can paste. `folder` is made first: ffmpeg does not make the one it writes to.

    Progress goes to the script's standard output, the log to its standard error.
    """
    make = f"mkdir -p {shlex.quote(folder)} || exit\n" if folder else ""
    return f"#!/bin/sh\n{make}exec {shlex.join(argv)}\n"


def fit_filter(video: Video) -> str:
    """The scale filter that fits a picture of any size into the box of `video`, as the module's head says.

    Without a box: even sides and nothing else, for 4:2:0 needs them.
    """
    if not (video.width and video.height):
        return "scale=w=trunc(iw/2)*2:h=trunc(ih/2)*2"
    wide = "gte(iw*sar,ih)"
    width, height = (f"if({wide},{a},{b})" for a, b in ((video.width, video.height), (video.height, video.width)))
    factor = f"min({width}/(iw*sar),{height}/ih)"
    if not video.upscale:
        factor = f"min(1,{factor})"
    sides = []
    for side in ("iw*sar", "ih"):
        length = f"2*round({side}*{factor}/2)"
        # Rounding up to an even side must not enlarge either.
        sides.append(f"max(2,{length})" if video.upscale else f"max(2,min({length},2*trunc({side}/2)))")
    return "scale=w={}:h={}".format(*(side.replace(",", "\\,") for side in sides)) + ",setsar=1"


def rate_filter(video: Video) -> str:
    """The filter that keeps the frame rate at or below `video.fps`; empty where no bound is set."""
    return f"fps=fps=min(source_fps\\,{video.fps:g})" if video.fps else ""


def picture_filters(video: Video) -> list[str]:
    """What a picture goes through, in order, before it is encoded."""
    return [part for part in (rate_filter(video), fit_filter(video)) if part]


def _encode(spec: JobSpec, paths: Paths) -> list[str]:
    recipe = spec.recipe
    if recipe.video is None:
        raise FarmError(f"the scenario {recipe.scenario} has no picture to encode")
    encoder = encoder_of(recipe)
    argv = [*ENGINE, *device_options(encoder), *_threads(recipe), *open_source(paths.input, spec.source.pattern)]
    argv += ["-map", "0:V:0", *(["-map", "0:a?"] if recipe.audio else ["-an"])]
    argv += _video_options(recipe.video, encoder)
    if recipe.audio:
        argv += _audio_options(recipe.audio)
    return [*argv, *_threads(recipe), *_container_options(recipe), paths.staged]


def _video_options(video: Video, encoder: str) -> list[str]:
    if not encoder:
        return ["-c:v", "copy"]
    upload = upload_filter(encoder)
    filters = [*picture_filters(video), upload or f"format={video.pixel_format}"]
    return ["-vf", ",".join(filters), "-c:v", encoder, *encoder_options(video, encoder)]


def _audio_options(audio: Audio) -> list[str]:
    options = ["-c:a", _SOUND_ENCODERS[audio.codec]]
    if audio.codec == "copy":
        return options
    if audio.codec == "opus":
        options += ["-af", _OPUS_LAYOUTS]
    if audio.bitrate_bps and audio.codec != "flac":
        options += ["-b:a", str(audio.bitrate_bps)]
    if audio.sample_rate_hz:
        options += ["-ar", str(audio.sample_rate_hz)]
    if audio.channels:
        options += ["-ac", str(audio.channels)]
    return options


def _container_options(recipe: Recipe) -> list[str]:
    container = recipe.container
    options = ["-f", MUXERS.get(container, container)]
    if container in ("mp4", "mov", "m4a"):
        options += ["-movflags", "+faststart"]
    if container in ("mp4", "mov") and recipe.video and recipe.video.codec == "h265":
        options += ["-tag:v", "hvc1"]  # players of Apple's take no other
    if container == "mp4" and recipe.audio and recipe.audio.codec == "flac":
        options += ["-strict", "experimental"]
    return options


def _threads(recipe: Recipe) -> list[str]:
    """As many threads as the job may use cores, for the side (input or output) that it stands at."""
    cores = math.ceil(recipe.limits.cpu_milli / 1000)
    return ["-threads", str(cores)] if cores else []


def _sound_only(spec: JobSpec, paths: Paths) -> list[str]:
    recipe = spec.recipe
    if recipe.audio is None:
        raise FarmError(f"the scenario {recipe.scenario} has no sound to encode")
    tracks = "0:a:0" if recipe.container in SINGLE_TRACK else "0:a"
    argv = [*ENGINE, *_threads(recipe), *open_source(paths.input, spec.source.pattern), "-map", tracks, "-vn"]
    return [*argv, *_audio_options(recipe.audio), *_container_options(recipe), paths.staged]


def _thumbnails(spec: JobSpec, paths: Paths) -> list[str]:
    recipe = spec.recipe
    asked = recipe.thumbnails or Thumbnails()
    # Not the fps filter: it gives none at all for a video shorter than half of `every_s`.
    select = f"select=gte(t-start_t\\,selected_n*{asked.every_s:g})"
    width = f"2*round(min({asked.width},iw*sar)/2)"
    height = f"max(2,2*round(min({asked.width},iw*sar)*ih/(iw*sar)/2))"
    scale = f"scale=w=max(2,{width}):h={height}".replace(",", "\\,") + ",setsar=1"
    argv = [*ENGINE, *_threads(recipe), *open_source(paths.input, spec.source.pattern), "-map", "0:V:0", "-an"]
    argv += ["-vf", f"{select},{scale}", "-fps_mode", "vfr", "-frames:v", str(asked.limit)]
    argv += ["-c:v", "mjpeg", "-q:v", "3"] if asked.format == "jpg" else ["-c:v", "png"]
    pictures = PurePath(paths.staged.replace("%", "%%")) / f"%05d.{asked.format}"
    return [*argv, *_threads(recipe), "-f", "image2", str(pictures)]


def _probe(spec: JobSpec, paths: Paths) -> list[str]:
    show = ["-show_format", "-show_streams", "-show_chapters", "-show_programs", "-of", "json"]
    argv = ["ffprobe", "-hide_banner", "-loglevel", "warning", *show, "-o", paths.staged]
    if spec.source.pattern is not None:
        return [*argv, *open_source("", spec.source.pattern)]
    return [*argv, *input_options(paths.input), "-i", url_of(paths.input)]


def _plain(spec: JobSpec, paths: Paths) -> list[str]:
    check_arguments(spec.arguments)
    check_output_name(paths.staged)
    argv = list(ENGINE)
    for argument in spec.arguments:
        if argument == INPUT:
            argv[-1:] = open_source(paths.input, spec.source.pattern)  # in place of the user's -i
        else:
            argv.append(f"file:{paths.staged}" if argument == OUTPUT else argument)
    return argv
