"""The command line's shape. Building it imports no command: each names its function as "module:function"."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ffrtmp import __version__

from . import parser_farm, parser_jobs, parser_submit
from .parser_parts import Parser, add_common, add_group, examples

DESCRIPTION = "Drive a farm for ffmpeg: submit jobs, see what becomes of them, and look after queues and nodes."
EXAMPLES = (
    "ffrtmpctl jobs submit --scenario 1080p-h264 --input /srv/ffrtmp/in.mov --output /srv/ffrtmp/out.mp4",
    "ffrtmpctl jobs list --state open",
    "ffrtmpctl jobs logs 1 --follow",
    "ffrtmpctl jobs why 1",
    "ffrtmpctl nodes list --json",
)
ENDING = (
    "exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 no master answers\n"
    "environment: FFRTMP_MASTER, the master's socket or URL, as --master"
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; man pages are made from it too."""
    parser = Parser(prog="ffrtmpctl", description=DESCRIPTION, epilog=examples(EXAMPLES) + "\n\n" + ENDING)
    add_common(parser, top=True)
    parser.add_argument("--version", action="version", version=f"ffrtmpctl {__version__}", help="of this program alone")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True, dest="command")
    jobs = add_group(commands, "jobs", "submit, see and steer jobs")
    parser_submit.add(jobs)
    parser_jobs.add(jobs)
    parser_farm.add(commands)
    parser_submit.add_short(commands)
    parser_jobs.add_short(commands)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line; raises FarmError (usage).

    What stands after the first "--" of `jobs run` is ffmpeg's and goes through untouched.
    """
    words = list(argv)
    if "--" in words and "run" in words:
        cut = words.index("--")
        args = _read(words[:cut])
        if hasattr(args, "arguments"):
            args.arguments = words[cut + 1 :]
            return args
    return _read(words)


def _read(words: list[str]) -> argparse.Namespace:
    """What is left over belongs to the command that was named, and its help is what helps."""
    args, rest = build_parser().parse_known_args(words)
    if rest:
        parser: Parser = args.parser
        raise parser.left_over(rest[0])
    return args
