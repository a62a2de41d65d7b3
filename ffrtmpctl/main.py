"""ffrtmpctl: read the command line, run one command, say errors as one line and a hint."""

from __future__ import annotations

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from ffrtmp.errors import FarmError

from .context import Command, context_of
from .parser import build_parser, parse
from .problems import as_line, wants_json
from .render import clean

__all__ = ["build_parser", "main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells count
PIPE_CLOSED = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, see `ffrtmp.errors.Exit`."""
    words = list(sys.argv[1:] if argv is None else argv)
    how = _How("--debug" in words[: words.index("--") if "--" in words else None], wants_json(words))
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except FarmError as error:
        return _said(error, how)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our answer has enough
        _drop_output()
        return PIPE_CLOSED
    except OSError as error:
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        return _said(FarmError(f"{where}{error.strerror or error}"), how)
    except Exception as error:
        hint = "this is a defect; please report it with what --debug shows"
        return _said(FarmError(f"{type(error).__name__}: {error}", hint=hint), how)


def _run(words: Sequence[str]) -> int:
    args = parse(words)
    context = context_of(args, sys.stdout, sys.stderr)
    return command_of(args)(args, context)


def command_of(args: Namespace) -> Command:
    """The function behind a command; only its module is imported."""
    module, _, function = args.run.partition(":")
    return cast(Command, getattr(importlib.import_module(f"ffrtmpctl.commands.{module}"), function))


def _drop_output() -> None:
    """What could not be written goes nowhere, or Python would complain about it once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass(frozen=True)
class _How:
    """How errors are told."""

    debug: bool
    json: bool


def _said(error: FarmError, how: _How) -> int:
    if how.debug:
        import traceback

        traceback.print_exc()
    with suppress(OSError):
        sys.stdout.flush()
    if how.json:
        sys.stderr.write(f"{as_line(error)}\n")
    else:
        sys.stderr.write(f"ffrtmpctl: {clean(error.what)}\n" + (f"hint: {clean(error.hint)}\n" if error.hint else ""))
    return int(error.code)
