"""The command line's shape. Building it imports no command: each names its function as "module:function".

`--output` means the format everywhere but at `submit` and `run`, where people expect the place of the result;
`--format` and `--json` mean the format everywhere.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from ffrtmp.errors import Exit, FarmError

from .address import DEFAULT_SOCKET
from .client import TIMEOUT_S
from .values import duration_s

Commands = Any  # what add_subparsers returns has no public name
A = TypeVar("A", bound="Parser")

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


class Parser(argparse.ArgumentParser):
    """Reports wrong usage as one line and a hint, as every other error is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise FarmError (usage) instead of printing the usage and leaving."""
        hint = f"`{self.prog} --help` shows how it is used, with examples"
        if message.startswith("unrecognized arguments") and self.prog.endswith(" run"):
            hint = 'what is for ffmpeg stands after "--"'
        raise FarmError(message, hint=hint, code=Exit.USAGE)


def examples(lines: Sequence[str]) -> str:
    """The end of a help text."""
    return "\n".join(("examples:" if len(lines) > 1 else "example:", *(f"  {line}" for line in lines)))


def add_common(parser: argparse.ArgumentParser, *, top: bool = False, path_output: bool = False) -> None:
    """The options that stand before or after any command. Below the top, unset ones leave no trace."""
    group = parser.add_argument_group("everywhere")
    unset: Any = argparse.SUPPRESS
    default = os.environ.get("FFRTMP_MASTER") or DEFAULT_SOCKET
    group.add_argument(
        "--master", metavar="ADDRESS", default=default if top else unset, help="the master's socket path or http:// URL"
    )
    group.add_argument(
        "--timeout",
        type=duration_s,
        metavar="TIME",
        default=TIMEOUT_S if top else unset,
        help="how long to wait for an answer (default 30s)",
    )
    names = ["--format"] if path_output else ["--output", "--format"]
    group.add_argument(
        *names, dest="format", choices=("table", "json"), default="table" if top else unset, help="how to answer"
    )
    group.add_argument(
        "--json", dest="format", action="store_const", const="json", default=unset, help="short for --format json"
    )
    group.add_argument(
        "--debug", action="store_true", default=False if top else unset, help="show the trace of an error"
    )


def add_group(commands: Commands, name: str, summary: str) -> Commands:
    """A group such as `jobs`; returns where its commands are added."""
    parser = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
    add_common(parser)
    return parser.add_subparsers(metavar="COMMAND", title="commands", required=True, dest=f"{name}_command")


def add_command(
    commands: Commands, name: str, run: str, summary: str, *lines: str, path_output: bool = False, **options: Any
) -> argparse.ArgumentParser:
    """A command: `run` is "module:function" under ffrtmpctl.commands, `lines` are examples of its use."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=examples(lines), **options
    )
    parser.set_defaults(run=run)
    add_common(parser, path_output=path_output)
    return parser


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; man pages are made from it too."""
    from . import parser_farm, parser_jobs, parser_submit

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
