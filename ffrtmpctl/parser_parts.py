"""What all commands of the command line share: the options that stand anywhere, groups, examples, words.

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

QUEUES = ("live", "default", "batch")
PRIORITIES = ("high", "medium", "low")
CLASSIFICATIONS = ("production", "test", "benchmark", "debug")
Commands = Any  # what add_subparsers returns has no public name
A = TypeVar("A", bound="Parser")


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
