"""What all commands of the command line share: the options that stand anywhere, groups, examples, words.

`--format` and `--json` say the form of an answer everywhere. `--output` says it too, but at `submit` and `run`, where
people expect the place of the result.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeVar

from ffrtmp.errors import Exit, FarmError

from .address import DEFAULT_SOCKET
from .client import TIMEOUT_S
from .values import duration_s

QUEUES = ("live", "default", "batch")
PRIORITIES = ("high", "medium", "low")
CLASSIFICATIONS = ("production", "test", "benchmark", "debug")
WAIT_HELP = (
    "show the progress until the job has ended; the exit status is 1 unless it completed. However long that takes: "
    "`timeout 1h ffrtmpctl ...` waits no longer than that, and the job goes on all the same"
)
Commands = Any  # what add_subparsers returns has no public name
A = TypeVar("A", bound="Parser")


class Parser(argparse.ArgumentParser):
    """Reports wrong usage as one line and a hint, as every other error is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise FarmError (usage) instead of printing the usage and leaving."""
        raise self.misuse(message)

    def misuse(self, what: str, advice: str = "") -> FarmError:
        """An error of usage that leads to this command's own help."""
        see = f"see `{self.prog} --help`"
        return FarmError(what, hint=f"{advice} {see}" if advice else see, code=Exit.USAGE)

    def left_over(self, word: str) -> FarmError:
        """What to say of a word that nothing takes: an option that there is not, or an argument too many."""
        name = word.partition("=")[0]
        if self.prog.endswith(" run") and not name.startswith("--"):
            return self.misuse(f'"{word}" cannot be placed', 'what is for ffmpeg stands after "--";')
        if not name.startswith("-"):
            return self.misuse(f'"{word}" is one argument too many')
        return self.misuse(f"there is no option {name}", did_you_mean(name, self._option_string_actions))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse does, but with the word that may have been meant."""
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            what = f'{self.prog} has no command "{value}"'
        else:
            name = "/".join(action.option_strings) or str(action.metavar or action.dest)
            what = f'{name}: "{value}" is none of {", ".join(known)}'
        raise self.misuse(what, did_you_mean(str(value), known))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question, or nothing where no known word is near."""
    import difflib  # for mistakes alone

    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]}?" if found else ""


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
    commands: Commands,
    name: str,
    run: str,
    summary: str,
    *lines: str,
    more: str = "",
    path_output: bool = False,
    **options: Any,
) -> argparse.ArgumentParser:
    """A command: `run` is "module:function" under ffrtmpctl.commands, `lines` are examples of its use."""
    ending = f"{more}\n\n{examples(lines)}" if more else examples(lines)
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=ending, **options
    )
    parser.set_defaults(run=run, parser=parser)
    add_common(parser, path_output=path_output)
    return parser
