"""How near an output is to its source: PSNR, SSIM and, where this ffmpeg has it, VMAF.

Both are compared in the output's size and rate: the source goes through the same fitting and the same bound on the frame
rate as in the encode, so that the figures are of the encoder and not of the scaling. Costs about a decode of both.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

from ffrtmp.spec import Pattern, Video
from ffrtmp_agent.media.commands import picture_filters
from ffrtmp_agent.media.sources import open_source

BEST_PSNR_DB = 100.0  # stands for "equal in every pixel", which is infinite
_FILTERS = {"psnr": "psnr", "ssim": "ssim", "vmaf": "libvmaf"}
_SAID = {
    "psnr": re.compile(r"PSNR .*average:(inf|[\d.]+)"),
    "ssim": re.compile(r"SSIM .*All:([\d.]+)"),
    "vmaf": re.compile(r"VMAF score: ([\d.]+)"),
}


def measure(output: str, source: str, pattern: Pattern | None, video: Video, asked: Iterable[str]) -> dict[str, float]:
    """The figures that could be had, by name. A comparison that fails gives none: it is no fault of the output."""
    names = [name for name in dict.fromkeys(asked) if name != "vmaf" or has_vmaf()]
    if not names:
        return {}
    argv = ["ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "info"]
    argv += [*open_source(output, None), *open_source(source, pattern)]
    argv += ["-filter_complex", comparison_graph(video, names), "-f", "null", "-"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        return {}
    found = {name: _SAID[name].search(done.stderr) for name in names}
    return {name: _number(match[1]) for name, match in found.items() if match}


def comparison_graph(video: Video, names: list[str]) -> str:
    """The filter graph that compares input 0 (the output) with input 1 (the source) by each of the measures."""
    count = len(names)
    even = f"format={video.pixel_format},settb=AVTB,setpts=PTS-STARTPTS"
    prepared = "" if video.codec == "copy" else ",".join(picture_filters(video)) + ","
    outputs = "".join(f"[o{index}]" for index in range(count))
    references = "".join(f"[r{index}]" for index in range(count))
    chains = [f"[0:V:0]{even},split={count}{outputs}", f"[1:V:0]{prepared}{even},split={count}{references}"]
    chains += [f"[o{index}][r{index}]{_FILTERS[name]}=shortest=1" for index, name in enumerate(names)]
    return ";".join(chains)


def has_vmaf() -> bool:
    """Whether this ffmpeg was built with libvmaf (Debian's is not)."""
    done = subprocess.run(["ffmpeg", "-v", "error", "-filters"], capture_output=True, text=True, check=False)
    return " libvmaf " in done.stdout


def _number(text: str) -> float:
    return BEST_PSNR_DB if text == "inf" else float(text)
