"""The command line's shape. Building it imports no command: each names its function as "module:function"."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import parser_farm, parser_jobs, parser_submit
from .parser_parts import Parser, add_common, add_group, examples

DESCRIPTION = "Drive a farm for ffmpeg: submit jobs, see what becomes of them, and look after queues and nodes."
EXAMPLES = (
    "ffrtmpctl jobs submit --scenario 1080p-h264 --input /srv/ffrtmp/in.mov --output /srv/ffrtmp/out.mp4",
    "ffrtmpctl jobs list --state open",
    "ffrtmpctl jobs logs 1 --follow",
    "ffrtmpctl jobs why 1",
    "ffrtmpctl nodes list --output json",
)
ENDING = (
    "exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 no master answers\n"
    "environment: FFRTMP_MASTER, the master's socket or URL, as --master"
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; man pages are made from it too."""
    parser = Parser(prog="ffrtmpctl", description=DESCRIPTION, epilog=examples(EXAMPLES) + "\n\n" + ENDING)
    add_common(parser, top=True)
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
    parser = build_parser()
    if "--" in argv and "run" in argv:
        cut = list(argv).index("--")
        args = parser.parse_args(argv[:cut])
        if hasattr(args, "arguments"):
            args.arguments = list(argv[cut + 1 :])
            return args
    return parser.parse_args(argv)
