"""What each video encoder calls what a scenario asks for: quality, bitrate, preset, key frames, devices.

`Video.crf` is the x264 scale for H.264, the x265 scale for H.265 and so on; hardware encoders get it on their nearest
scale, where 0 is best and 51 worst too. A preset is said in the words of x264 (ultrafast ... veryslow) and translated.
"""

from __future__ import annotations

from ffrtmp.spec import Video

RENDER_NODE = "/dev/dri/renderD128"
_NVENC_PRESETS = {
    "ultrafast": "p1",
    "superfast": "p1",
    "veryfast": "p2",
    "faster": "p3",
    "fast": "p3",
    "medium": "p4",
    "slow": "p5",
    "slower": "p6",
    "veryslow": "p7",
}
_QSV_PRESETS = {"ultrafast": "veryfast", "superfast": "veryfast"}


def family(encoder: str) -> str:
    """nvenc, qsv, vaapi, or the software encoder's own name."""
    suffix = encoder.rpartition("_")[2]
    return suffix if suffix in ("nvenc", "qsv", "vaapi") else encoder


def device_options(encoder: str) -> list[str]:
    """What stands before the input for an encoder that needs a device."""
    match family(encoder):
        case "vaapi":
            return ["-init_hw_device", f"vaapi=gpu:{RENDER_NODE}", "-filter_hw_device", "gpu"]
        case "qsv":
            return ["-init_hw_device", "qsv=gpu", "-filter_hw_device", "gpu"]
        case _:
            return []


def upload_filter(encoder: str) -> str:
    """The last filter before an encoder that takes the picture in another form than `Video.pixel_format`."""
    return {"vaapi": "format=nv12,hwupload", "qsv": "format=nv12"}.get(family(encoder), "")


def encoder_options(video: Video, encoder: str) -> list[str]:
    """The encoder's own options, after `-c:v`."""
    own = {
        "libvpx-vp9": _vp9,
        "libsvtav1": _svtav1,
        "nvenc": _nvenc,
        "qsv": _qsv,
        "vaapi": _vaapi,
    }.get(family(encoder), _x26x)
    profile = ["-profile:v", video.profile] if video.profile else []
    return [*own(video), *profile, *_key_frames(video, encoder)]


def _key_frames(video: Video, encoder: str) -> list[str]:
    if not video.gop_s:
        return []
    options = ["-g", str(max(1, round(video.gop_s * video.fps)))] if video.fps else []
    if encoder != "libsvtav1":  # it takes no forced ones
        options += ["-force_key_frames", f"expr:gte(t,n_forced*{video.gop_s:g})"]
    return [*options, "-forced-idr", "1"] if family(encoder) == "nvenc" else options


def _rate(video: Video) -> list[str]:
    """A target, a ceiling (over two seconds), or both; empty where neither is asked."""
    options = ["-b:v", str(video.bitrate_bps)] if video.bitrate_bps else []
    if video.max_bitrate_bps:
        options += ["-maxrate", str(video.max_bitrate_bps), "-bufsize", str(2 * video.max_bitrate_bps)]
    return options


def _quality(video: Video, option: str) -> list[str]:
    """Constant quality, unless a bitrate is the target."""
    return [option, str(video.crf)] if video.crf >= 0 and not video.bitrate_bps else []


def _x26x(video: Video) -> list[str]:
    return [*(["-preset", video.preset] if video.preset else []), *_quality(video, "-crf"), *_rate(video)]


def _vp9(video: Video) -> list[str]:
    speed = video.preset if video.preset.isdigit() else "4"
    options = ["-deadline", "good", "-cpu-used", speed, "-row-mt", "1", "-tile-columns", "2"]
    if video.crf >= 0 and not video.bitrate_bps:
        return [*options, "-crf", str(video.crf), "-b:v", str(video.max_bitrate_bps)]  # 0: quality alone counts
    return [*options, *_rate(video)]


def _svtav1(video: Video) -> list[str]:
    target = ["-b:v", str(video.bitrate_bps)] if video.bitrate_bps else []
    return ["-preset", video.preset or "8", *_quality(video, "-crf"), *target]


def _nvenc(video: Video) -> list[str]:
    preset = _NVENC_PRESETS.get(video.preset, video.preset or "p4")
    quality = _quality(video, "-cq")
    return ["-preset", preset, "-rc", "vbr", *quality, *(["-b:v", "0"] if quality else []), *_rate(video)]


def _qsv(video: Video) -> list[str]:
    preset = _QSV_PRESETS.get(video.preset, video.preset or "medium")
    return ["-preset", preset, *_quality(video, "-global_quality"), *_rate(video)]


def _vaapi(video: Video) -> list[str]:
    if quality := _quality(video, "-qp"):
        return ["-rc_mode", "CQP", *quality]
    return ["-rc_mode", "VBR", *_rate(video)] if video.bitrate_bps else []
