"""Which plain ffmpeg arguments (`jobs run`) the farm takes: one input, one output, and nothing else that opens a file.

Why this is more than a search for slashes
------------------------------------------
ffmpeg opens files from many places: inputs, outputs, options (`-attach`, `-vstats_file`), codecs
(`-x264-params stats=`), filters (`movie=`, `subtitles=`), muxers (`tee`, `segment`), and since 6.1 any option of any
filter (`scale=/w=FILE`). The arguments are therefore read as ffmpeg reads them: an option that takes a value takes the
next argument, what is left over is an output. Then

* `{input}` stands once, after `-i`; `{output}` stands once, at the end; no other input or output is there;
* filters and formats are taken from a list of those that open nothing; a graph is split as libavfilter splits it;
* options whose names speak of files, devices, protocols or reports are refused, so are values that look like a path,
  a URL or a file name.

This is the first of two fences and the one that explains itself; the runner confines the engine by the kernel's means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from ffrtmp.errors import Exit, FarmError

INPUT = "{input}"
OUTPUT = "{output}"
MAX_ARGUMENTS = 512
MAX_ARGUMENT_CHARS = 16_384


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ffmpeg's own options that take no value (5.1 and 7.1), with their "no" forms; all others take one.
_SWITCHES = _words(
    """
    accurate_seek an auto_conversion_filters autorotate autoscale benchmark bitexact copy_unknown copyinkf copyts
    display_hflip display_vflip dn find_stream_info fix_sub_duration fix_sub_duration_heartbeat force_fps
    hide_banner ignore_unknown re recast_media shortest sn start_at_zero vn xerror y
    """
)
_GRAPHS = frozenset({"filter", "vf", "af", "filter_complex", "lavfi"})
_FREE_TEXT = frozenset({"metadata"})  # never opened, whatever it looks like
_EXPRESSIONS = frozenset({"force_key_frames"})

# Options refused by their own name, and words in a name that tell of files, devices or the network.
_OWN = _words(
    """
    apre attach benchmark_all debug_ts dec dump fpre h help hex i listen loglevel n pass pre progress psnr qphist
    report sinks sources spre stdin stream_group timelimit v version vol vpre
    """
)
_TELLING = re.compile(
    r"file|path|url|uri|script|device|attach|passlog|stats|playlist|segment|sdp|proxy|cookie|header|cert|whitelist|"
    r"blacklist|protocol|_list|_dir|report|socket|host|sock|server|hls_|dash|^/",
    re.IGNORECASE,
)
_HARMLESS = frozenset({"nostats", "nostdin", "stats_period", "profile"})

# Formats that open nothing beside their own file.
_FORMATS = _words(
    """
    3gp aac ac3 adts aiff asf au avi caf dv eac3 f32le flac flv gif h264 hevc image2 image2pipe ipod ivf m4v
    matroska mjpeg mov mp2 mp3 mp4 mpeg mpeg2video mpegts mpegvideo mxf nut obu oga ogg ogv opus psp rawvideo s16le
    s24le s32le u8 vob w64 wav webm webp wv yuv4mpegpipe
    """
)
_EXTENSIONS = _words(
    """
    3gp aac ac3 aif aiff asf au avi bmp caf dv eac3 flac flv gif h264 h265 hevc ivf jpeg jpg m4a m4v mka mkv mov mp2
    mp3 mp4 mpeg mpg mxf nut obu oga ogg ogv opus png tif tiff ts vob w64 wav webm webp wma wmv wv y4m
    """
)
_FILTERS = _words(
    """
    acompressor acontrast acopy acrossfade acrusher adeclick adeclip adelay adynamicequalizer aecho aemphasis afade
    afftdn aformat agate alimiter allpass aloop alphaextract alphamerge amerge amix anequalizer anlmdn anoisesrc
    anull anullsink anullsrc apad aphaser apulsator aresample areverse aselect asetnsamples asetpts asetrate asettb
    asplit atadenoise atempo atrim avgblur bandpass bandreject bass bilateral biquad blackdetect blackframe blend
    boxblur bwdif cas channelmap channelsplit chorus chromahold chromakey chromanr chromashift color colorbalance
    colorchannelmixer colorcontrast colorcorrect colorhold colorize colorkey colorlevels colormatrix colorspace
    colortemperature compand compensationdelay concat convolution copy crop cropdetect crossfeed crystalizer dblur
    dcshift dctdnoiz deband deblock decimate deesser deflicker dejudder delogo despill detelecine dialoguenhance
    dilation drawbox drawgrid dynaudnorm earwax ebur128 edgedetect eq equalizer erosion estdif exposure extrastereo
    fade fftdnoiz field fieldmatch fieldorder fillborders flanger format fps framerate framestep gblur geq gradfun
    grayworld haas hflip highpass highshelf histeq histogram hqdn3d hqx hstack hue huesaturation hwdownload hwupload
    idet il interlace interleave join kerndeint lagfun lenscorrection limiter loop lowpass lowshelf lumakey lut
    lutrgb lutyuv mcompand median mestimate minterpolate mix monochrome mpdecimate negate nlmeans noformat noise
    normalize null nullsink nullsrc overlay owdenoise pad palettegen paletteuse pan perspective photosensitivity
    pixelize pp pp7 premultiply pseudocolor pullup qp random removegrain repeatfields replaygain reverse rgbashift
    rotate sab scale scale2ref scale_cuda scale_qsv scale_vaapi scdet select selectivecolor separatefields setdar
    setfield setparams setpts setrange setsar settb showfreqs showspectrum showvolume showwaves shuffleframes
    shuffleplanes sidechaincompress sidechaingate silencedetect silenceremove sine smartblur smptebars smptehdbars
    speechnorm split spp stereo3d stereotools stereowiden super2xsai superequalizer surround swaprect swapuv tblend
    telecine testsrc testsrc2 thumbnail tile tiltshelf tinterlace tmedian tmix tonemap tonemap_vaapi tpad transpose
    transpose_vaapi treble tremolo trim unpremultiply unsharp untile v360 vaguedenoiser vflip vfrdet vibrance
    vibrato vignette virtualbass volume volumedetect vpp_qsv vstack w3fdif weave xbr xfade xstack yadif zoompan
    zscale
    """
)

_RATIO = re.compile(r"-?[\d.]+[kMG]?/[\d.]+")
_SCHEME = re.compile(
    r"(?:\w[\w+.-]*:)?//|(?:async|cache|concat|concatf|crypto|data|fd|file|ftp|gopher|http|https|icecast|ipfs|ipns|md5|mmsh|"
    r"pipe|prompeg|rist|rtmp\w*|rtp|sctp|sftp|smb|srt|srtp|subfile|tcp|tee|tls|udp|unix|zmq)[:,]",
    re.IGNORECASE,
)
_FILE_NAME = re.compile(r"[^=,:()\s]*\.[A-Za-z][A-Za-z0-9]{1,5}")
_INNER_KEYS = re.compile(
    r"(?:^|:)\s*(stats|csv\w*|qpfile|zonefile|log\w*file\w*|[\w-]*file[\w-]*|dump\w*|recon|analysis-(?:save|load|reuse-file)|"
    r"clbin|opencl-clbin|lambda-file|cqm\w*|scaling-list|fgs-table|dhdr10-info|film-grain-table|vmaf\w*|[\w-]*path[\w-]*)\s*=",
    re.IGNORECASE,
)


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises FarmError (code USAGE) that names the first argument that is not taken, and what would be."""
    if len(arguments) > MAX_ARGUMENTS or any(len(argument) > MAX_ARGUMENT_CHARS for argument in arguments):
        raise _refuse("there are too many arguments, or they are too long", f"at most {MAX_ARGUMENTS} are taken")
    if any(not argument.isprintable() for argument in arguments):
        raise _refuse("an argument has a character that cannot be printed", "write the arguments as plain text")
    inputs = outputs = 0
    for name, value in _options(arguments):
        if not name:
            outputs += 1
            if value != OUTPUT:
                raise _refuse(
                    f'"{value}" would be another output', f"the only output is {OUTPUT}, as the last argument"
                )
        elif name == "i":
            inputs += 1
            if value != INPUT:
                raise _refuse(f'"{value}" would be another input', f"the only input is {INPUT}, after -i")
        else:
            _check_option(name, value)
    if inputs != 1 or outputs != 1 or arguments[-1] != OUTPUT:
        raise _refuse("one input and one output are needed", f"write -i {INPUT} ... {OUTPUT}, each once, {OUTPUT} last")


def check_output_name(name: str) -> None:
    """Raises FarmError for an output whose extension would make ffmpeg write more than this one file."""
    suffix = PurePosixPath(name).suffix.lstrip(".").lower()
    if suffix not in _EXTENSIONS:
        raise _refuse(f'"{name}" has an extension that is not taken', f"use one of {' '.join(sorted(_EXTENSIONS))}")


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """(option without dash, its value or None), and ("", argument) for what ffmpeg takes as an output."""
    rest = iter(arguments)
    for argument in rest:
        if len(argument) < 2 or not argument.startswith("-"):
            yield "", argument
        elif _base(argument) in _SWITCHES or _base(argument).removeprefix("no") in _SWITCHES | {"stats", "stdin"}:
            yield argument[1:], None
        else:
            value = next(rest, None)
            if value is None:
                raise _refuse(f"{argument} has no value", f"the last argument is {OUTPUT}")
            yield argument[1:], value


def _base(option: str) -> str:
    """The option's name without dash and stream specifier: "filter" of "-filter:v:0"."""
    return option.lstrip("-").partition(":")[0]


def _check_option(option: str, value: str | None) -> None:
    name = _base(option)
    if name in _OWN or (name not in _HARMLESS and _TELLING.search(name)):
        raise _refuse(f"-{option} is not taken", "it opens a file or a device, or is the farm's own to say")
    if value is None or name in _FREE_TEXT:
        return
    if INPUT in value or OUTPUT in value:
        raise _refuse(f"{value} stands at -{option}", f"{INPUT} stands after -i only, {OUTPUT} at the end only")
    if name in _GRAPHS:
        for filter_name, options in split_graph(value):
            _check_filter(filter_name, options)
    elif name == "f":
        if value not in _FORMATS:
            raise _refuse(f"the format {value} is not taken", f"use one of {' '.join(sorted(_FORMATS))}")
    elif _looks_like_file(value, slashes=name in _EXPRESSIONS) or _INNER_KEYS.search(value):
        raise _refuse(f'"{value}" at -{option} looks like a file or a URL', f"only {INPUT} and {OUTPUT} are opened")


def _check_filter(name: str, options: str) -> None:
    if name not in _FILTERS:
        raise _refuse(f'the filter "{name}" is not taken', "only filters that open no file are")
    bare = re.sub(r"[\\'\s]", "", options)
    if re.search(r"(?:^|:)/|file\w*=", bare) or "//" in bare:
        raise _refuse(f'"{options}" of the filter {name} names a file', "say the value itself")


def split_graph(graph: str) -> list[tuple[str, str]]:
    """(filter, its options) of a filter graph, split as libavfilter does; raises FarmError for a disguised name."""
    found, position = [], 0
    if graph.lstrip().startswith("sws_flags="):
        position = graph.find(";") + 1 or len(graph)
    while position < len(graph):
        if graph[position] in " \t,;":
            position += 1
        elif graph[position] == "[":
            position = _token_end(graph, position, "]") + 1
        else:
            end = _token_end(graph, position, "=,;[")
            name, options, position = graph[position:end].strip(), "", end
            if graph[end : end + 1] == "=":
                position = _token_end(graph, end + 1, "[],;")
                options = graph[end + 1 : position]
            if re.search(r"[\\']", name):
                raise _refuse(f'the filter name "{name}" has quotes', "write it plainly")
            found.append((name.partition("@")[0], options))
            if graph[position : position + 1] == "]":
                raise _refuse(f'the filter graph "{graph}" has a "]" too many', "every [label] has both brackets")
    return found


def _token_end(text: str, position: int, terminators: str) -> int:
    """Where a token ends: at the first terminator that is neither escaped nor quoted, or at the end."""
    while position < len(text) and text[position] not in terminators:
        if text[position] == "\\":
            position += 2
        elif text[position] == "'":
            closing = text.find("'", position + 1)
            position = len(text) if closing < 0 else closing + 1
        else:
            position += 1
    return min(position, len(text))


def _looks_like_file(value: str, *, slashes: bool) -> bool:
    """Whether a value reads as a path, a URL or a file name. `slashes`: it is an expression that may divide."""
    if _SCHEME.match(value) or "://" in value or value.startswith(("/", "~", "./", "..")) or "\\" in value:
        return True
    if (
        "/" in value
        and not slashes
        and not all(_RATIO.fullmatch(part) for part in re.split("[:=,]", value) if "/" in part)
    ):
        return True
    return _FILE_NAME.fullmatch(value) is not None


def _refuse(what: str, hint: str) -> FarmError:
    return FarmError(what, hint=hint, code=Exit.USAGE)
