"""Asking a person before something that is not undone."""

from __future__ import annotations

import sys
from typing import TextIO

from ffrtmp.errors import Exit, FarmError


def needs_terminal(what: str) -> None:
    """Raise FarmError (usage) where nobody can be asked; `what` asks first, e.g. "nodes remove"."""
    if not sys.stdin.isatty():
        hint = "--yes does it without asking"
        raise FarmError(f"{what} asks first, and there is no terminal", hint=hint, code=Exit.USAGE)


def ask(err: TextIO, question: str) -> None:
    """Put the question on the terminal; raises FarmError (refused) unless the answer is yes."""
    err.write(f"{question}? [y/N] ")
    err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise FarmError("nothing was done", code=Exit.REFUSED)
