"""The shape of `jobs submit` and `jobs run`."""

from __future__ import annotations

import argparse
import os
import re

from .parser_parts import CLASSIFICATIONS, PRIORITIES, QUEUES, WAIT_HELP, Commands, add_command
from .values import between, cpu_milli, duration_s, media_path, pattern, size_bytes

PATHS = (
    "paths:\n"
    "  ROOT:path        a path inside the media root that nodes call ROOT\n"
    "  ROOT@NODE:path   the same, where nodes use one name for different storages: the one that NODE has\n"
    "  /a/path          where it lies in a media root of a node"
)
SUBMIT_EXAMPLES = (
    "ffrtmpctl jobs submit --scenario 1080p-h264 --input /srv/ffrtmp/in.mov --output /srv/ffrtmp/out.mp4",
    "ffrtmpctl jobs submit --scenario 720p-h264 --input media:in.mov --output media:out.mp4 --wait",
    "ffrtmpctl jobs submit --scenario 720p-h264 --input media@studio2:in.mov --output media@studio2:out.mp4",
    "ffrtmpctl jobs submit --scenario 720p30-h265 --generate 1280x720@30:60 --classification benchmark",
    "ls /srv/ffrtmp/in/*.mov | ffrtmpctl jobs submit --scenario batch --from - --output 'media:out/{stem}.mp4'",
    "ffrtmpctl jobs submit --from jobs.jsonl    # one Submission a line, as JSON",
)
RUN_EXAMPLES = (
    "ffrtmpctl jobs run --input media:in.mov --output media:out.mp4 -- -i {input} -c:v libx264 -crf 20 {output}",
)


def add(jobs: Commands) -> None:
    """`submit` and `run` below `jobs`."""
    _add_submit(jobs)
    run = add_command(
        jobs,
        "run",
        "submit:run",
        "submit plain ffmpeg arguments, for what no scenario says",
        *RUN_EXAMPLES,
        more=PATHS,
        path_output=True,
        usage="ffrtmpctl jobs run [options] --input PATH --output PATH -- ARGUMENTS",
    )
    run.set_defaults(arguments=[])
    _add_media(run)
    _add_terms(run)
    _add_limits(run)
    _add_after(run)


def add_short(commands: Commands) -> None:
    """`submit` at the top."""
    _add_submit(commands)


def _add_submit(commands: Commands) -> None:
    parser = add_command(
        commands,
        "submit",
        "submit:submit",
        "submit one job, or a batch of them",
        *SUBMIT_EXAMPLES,
        more=PATHS,
        path_output=True,
    )
    parser.add_argument("--scenario", metavar="NAME", help="the recipe; see `ffrtmpctl scenarios list`")
    parser.add_argument(
        "--from",
        dest="batch",
        metavar="FILE",
        help="a batch, accepted whole or not at all: a Submission in JSON a line, or an input a line together with "
        "--output such as 'media:{dir}/{stem}.mp4' ({stem} {name} {dir} of the input, {index} of the line); "
        "- reads standard input; empty lines and lines that begin with # are passed over; the other flags are for the lines "
        "that do not say otherwise",
    )
    _add_media(parser)
    parser.add_argument(
        "--generate",
        type=pattern,
        metavar="SIZE@RATE:TIME",
        help="a generated test pattern as the input, e.g. 1280x720@30:60; without it and --input, one of a minute",
    )
    parser.add_argument(
        "--engine",
        choices=("ffmpeg", "gstreamer", "auto"),
        help="what does the work (gstreamer comes with live scenarios, not in this version)",
    )
    parser.add_argument(
        "--quality", metavar="LIST", type=quality, help="measure psnr, ssim, vmaf (with commas between)"
    )
    _add_terms(parser)
    _add_limits(parser)
    _add_after(parser)


def _add_media(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", metavar="PATH", type=media_path, help="ROOT:path, ROOT@NODE:path, a path, or a URL")
    parser.add_argument(
        "--output",
        dest="outputs",
        metavar="PATH",
        action="append",
        type=place,
        help="where the result goes: as --input, but no URL (pushing comes with live scenarios, not in this version)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what stands at the output path; needs an input"
    )


def _add_terms(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("order and place")
    group.add_argument("--queue", choices=QUEUES, help="taken in this order (default: default)")
    group.add_argument("--priority", choices=PRIORITIES, help="within the queue (default medium)")
    group.add_argument("--strict", action="store_true", help="reject the job when no known node could ever run it")
    group.add_argument("--max-retries", type=between(0, 1000), metavar="N", help="after failures that may pass")
    group.add_argument("--label", dest="labels", action="append", metavar="LABEL", help="only on nodes that have it")
    group.add_argument("--classification", choices=CLASSIFICATIONS, help="what it counts as (default production)")
    group.add_argument(
        "--on-disconnect", choices=("keep", "stop"), help="what a node does with it when the master is out of reach"
    )
    group.add_argument("--note", metavar="TEXT", help="your own words, kept with the job")
    group.add_argument("--traceparent", type=traceparent, metavar="ID", help="the W3C trace that it belongs to")
    group.add_argument(
        "--idempotency-key", metavar="KEY", help="submitting again with the same key makes no second job"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("needs and limits")
    group.add_argument("--cpu", type=cpu_milli, metavar="CORES", help="needed, and not more: 2, 0.5, 1500m")
    group.add_argument("--memory", type=size_bytes, metavar="SIZE", help="needed, and not more: 2GiB")
    group.add_argument("--scratch", type=size_bytes, metavar="SIZE", help="space for what is not finished")
    group.add_argument("--file-size", type=size_bytes, metavar="SIZE", help="the largest file it may write")
    group.add_argument("--time", type=duration_s, metavar="TIME", help="how long it may run, pauses not counted: 2h")
    group.add_argument("--nice", type=between(-20, 19), metavar="N", help="-20 to 19")
    group.add_argument("--io-weight", type=between(1, 10000), metavar="N", help="1 to 10000, as systemd's IOWeight=")


def _add_after(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        "--follow",
        dest="wait",
        action="store_true",
        help=WAIT_HELP,
    )


def place(text: str) -> str:
    """An output, as written; a format's name is a mistake: no output is called so."""
    if text in ("table", "json"):
        raise argparse.ArgumentTypeError(f"it is the place of the result; for the format say --format {text}")
    if not text:
        raise argparse.ArgumentTypeError("a path is empty")
    return text


def quality(text: str) -> list[str]:
    """The measures of psnr,ssim,vmaf."""
    words = [word.strip() for word in text.lower().split(",") if word.strip()]
    if not words or any(word not in ("psnr", "ssim", "vmaf") for word in words):
        raise argparse.ArgumentTypeError(f'"{text}" is no measure of quality: psnr, ssim, vmaf')
    return words


def traceparent(text: str) -> str:
    """A W3C traceparent, as it is."""
    if not re.fullmatch(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", text):
        raise argparse.ArgumentTypeError(f'"{text}" is no traceparent')
    return text


def ambient_traceparent() -> str:
    """The trace of the program that called us, where $TRACEPARENT tells one."""
    try:
        return traceparent(os.environ.get("TRACEPARENT", ""))
    except argparse.ArgumentTypeError:
        return ""
