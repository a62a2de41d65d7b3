"""Which encoders this host offers: those with which a real encode of a few frames has worked here.

That ffmpeg lists an encoder says only that it was built in. Debian's ffmpeg lists the encoders of NVIDIA, Intel and
V4L2 on every machine; a driver may be missing, too old, or broken for one codec; a build may crash. So each candidate
that is listed encodes some frames of a test picture (or a moment of a tone), and the packets that come out are counted,
since ffmpeg may end well and have written nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from ffrtmp.host.bounded import Ran
from ffrtmp.host.ffmpeg import telling_line

Sort = Literal["video", "audio", "vaapi", "qsv", "hardware"]
CANDIDATES: dict[str, Sort] = {
    "libx264": "video",
    "libx265": "video",
    "libvpx-vp9": "video",
    "libsvtav1": "video",
    "libaom-av1": "video",
    "mjpeg": "video",
    "png": "video",
    "aac": "audio",
    "libopus": "audio",
    "flac": "audio",
    "libmp3lame": "audio",
    "h264_nvenc": "hardware",
    "hevc_nvenc": "hardware",
    "av1_nvenc": "hardware",
    "h264_qsv": "qsv",
    "hevc_qsv": "qsv",
    "h264_vaapi": "vaapi",
    "hevc_vaapi": "vaapi",
    "h264_v4l2m2m": "hardware",
}
_FRAMES = 3
# Hardware encoders refuse pictures below some 150 to 256 pixels; software ones are quicker with small ones.
_LARGE, _SMALL = "640x384", "192x128"
_PIXELS = {"mjpeg": "yuvj420p", "png": "rgb24", "vaapi": "nv12", "qsv": "nv12"}


class Proof(Struct, frozen=True):
    """The outcome of a trial. `reason` is why the encoder is not offered, or why an older proof still counts."""

    encoder: str
    offered: bool
    reason: str = ""
    device: str = ""  # the render node that it worked through (VA-API)
    tried_at_s: float = 0.0  # wall clock
    took_s: float = 0.0
    certain: bool = True  # False: the trial did not come to an end, so it says little


def is_hardware(encoder: str) -> bool:
    """Whether the encoder needs more than the processor; such a proof is soon stale."""
    return CANDIDATES[encoder] not in ("video", "audio")


def trials(encoder: str, program: str, render_nodes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The commands that try an encoder, by device ("" for none): any that works is proof. Empty: there is no device."""
    if CANDIDATES[encoder] == "vaapi":
        return {node: _command(encoder, program, node) for node in render_nodes}
    return {"": _command(encoder, program, "")}


def judge(encoder: str, ran: Ran, *, device: str, now_s: float) -> Proof:
    """What one trial proved."""
    complaint = _complaint(ran)
    return Proof(
        encoder=encoder,
        offered=not complaint,
        reason=complaint,
        device="" if complaint else device,
        tried_at_s=now_s,
        took_s=round(ran.took_s, 3),
        certain=ran.how not in ("timed_out", "not_reached"),
    )


def count_packets(framecrc: str) -> int:
    """The packets that are not empty in what ffmpeg's framecrc muxer wrote: stream, dts, pts, duration, size, sum."""
    found = 0
    for line in framecrc.splitlines():
        fields = line.split(",")
        if not line.startswith("#") and len(fields) >= 6 and fields[4].strip().isdigit():
            found += int(fields[4]) > 0
    return found


def _complaint(ran: Ran) -> str:
    if ran.how == "not_reached":
        return "not tried: the time for trials was used up"
    if ran.how == "timed_out":
        return f"the trial did not end within {ran.took_s:.0f} s"
    if ran.ok and count_packets(ran.output):
        return ""
    if ran.ok:
        return telling_line(ran.errors) or "the trial wrote nothing"
    ended = f"signal {-ran.status}" if ran.status < 0 else f"status {ran.status}"
    return telling_line(ran.errors) or f"the trial ended with {ended}"


def _command(encoder: str, program: str, device: str) -> tuple[str, ...]:
    sort = CANDIDATES[encoder]
    start = (program, "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-threads", "1")
    end = ("-c:v" if sort != "audio" else "-c:a", encoder, "-f", "framecrc", "pipe:1")
    if sort == "audio":
        return (*start, "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "0.1", *end)
    size = _SMALL if sort == "video" else _LARGE
    picture = ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25", "-frames:v", str(_FRAMES))
    pixels = _PIXELS.get(encoder) or _PIXELS.get(sort) or "yuv420p"
    if sort == "vaapi":
        return (*start, "-vaapi_device", device, *picture, "-vf", f"format={pixels},hwupload", *end)
    return (*start, *picture, "-pix_fmt", pixels, "-threads", "1", *end)
