"""How ffmpeg and ffprobe are told to open a source: from where, by which protocols, as which formats.

A media file is a stranger's. ffmpeg has input formats that are lists of other files and URLs (concat, hls, dash) and
that it recognises by content, so a "video" can make it open what its submitter may not. A file is therefore opened with
the protocol `file` alone and only as a format that holds its own media; a URL by network protocols alone (P12).
"""

from __future__ import annotations

from pathlib import PurePath
from urllib.parse import urlsplit

from ffrtmp.errors import Exit, FarmError
from ffrtmp.spec import Pattern

# Demuxers of ffmpeg 5.1 and 7.1 that open nothing beside what they are given.
_FORMATS = (
    "3g2,3gp,aac,ac3,ac4,aiff,alac,amr,ape,asf,au,av1,avi,bmp_pipe,caf,dirac,dnxhd,dsf,dts,dtshd,dv,eac3,flac,flv,gif,gxf,"
    "h261,h263,h264,hevc,ivf,jpeg_pipe,jpegls_pipe,j2k_pipe,kux,m4a,m4v,matroska,mjpeg,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,oma,png_pipe,qcp,rm,sox,spx,tiff_pipe,truehd,tta,vc1,vivo,voc,vvc,w64,wav,webm,webp_pipe,wtv,"
    "wv,yuv4mpegpipe"
)
_URL_FORMATS = f"{_FORMATS},hls,webvtt"
_URL_PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto"
# A picture is opened as one: ffmpeg's choice for its name would be `image2`, to which "%d" in it means many files.
_PICTURES = {"jpg": "jpeg_pipe", "jpeg": "jpeg_pipe", "png": "png_pipe", "bmp": "bmp_pipe", "webp": "webp_pipe"}
_PICTURES |= {"tif": "tiff_pipe", "tiff": "tiff_pipe"}
_SILENCE_S = 20  # a server that says nothing for so long is gone
_RECONNECT_S = 8  # the longest wait between two tries: 0, 1, 3, 7 s; what lasts longer is for the farm's back-off


def is_url(source: str) -> bool:
    """Whether a source is a URL and not a path."""
    return "://" in source and not source.startswith("/")


def input_options(source: str) -> list[str]:
    """The options before `-i` for a path or a URL; raises FarmError (REFUSED) for a protocol that is not taken."""
    if not is_url(source):
        picture = _PICTURES.get(PurePath(source).suffix[1:].lower())
        named = ["-f", picture] if picture else []
        return ["-protocol_whitelist", "file", "-format_whitelist", _FORMATS, *named]
    scheme = urlsplit(source).scheme.lower()
    if scheme not in ("http", "https"):
        raise FarmError(
            f"sources by {scheme} are not taken", hint="give a file, or an http or https URL", code=Exit.REFUSED
        )
    options = ["-protocol_whitelist", _URL_PROTOCOLS, "-format_whitelist", _URL_FORMATS]
    options += ["-rw_timeout", str(_SILENCE_S * 1_000_000)]
    # Not -reconnect_streamed: a server without ranges starts again at the beginning, and the picture would be spoilt.
    options += ["-reconnect", "1", "-reconnect_on_network_error", "1"]
    return [*options, "-reconnect_on_http_error", "5xx", "-reconnect_delay_max", str(_RECONNECT_S)]


def url_of(source: str) -> str:
    """What stands after `-i`: a path gets its protocol, so that no character of its name has a meaning."""
    return source if is_url(source) else f"file:{source}"


def open_source(source: str, pattern: Pattern | None) -> list[str]:
    """The whole input: options, `-i` and what is opened. `source` is empty where `pattern` is given."""
    if pattern is not None:
        return ["-f", "lavfi", "-i", pattern_graph(pattern)]
    return [*input_options(source), "-i", url_of(source)]


def pattern_graph(pattern: Pattern) -> str:
    """The filter graph of a generated picture with a tone: one input with a video and an audio stream."""
    picture = f"testsrc2=size={pattern.width}x{pattern.height}:rate={pattern.fps:g}:duration={pattern.duration_s:g}"
    tone = f"sine=frequency=440:sample_rate=48000:duration={pattern.duration_s:g}"
    return f"{picture}[out0];{tone}[out1]"
