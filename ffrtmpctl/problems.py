"""Errors as documents, for programs: what the API calls a problem (RFC 9457), on one line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from ffrtmp.api import Problem
from ffrtmp.errors import Exit, FarmError

from .client import Refusal

# What an error of ffrtmpctl's own is called, and the HTTP status that says the same.
_KINDS = {
    Exit.USAGE: ("wrong usage", 400),
    Exit.NOT_FOUND: ("not found", 404),
    Exit.REFUSED: ("refused", 409),
    Exit.NO_MASTER: ("no master answers", 503),
}


def problem_of(error: FarmError) -> Problem:
    """The master's own problem where it refused, else one with the same words as the two lines for people."""
    if isinstance(error, Refusal):
        return error.problem
    title, status = _KINDS.get(error.code, ("failed", 500))
    return Problem(title=title, status=status, detail=error.what, hint=error.hint)


def as_line(error: FarmError) -> str:
    """The problem in JSON and in ASCII, so that nothing in it can steer a terminal."""
    import json

    return json.dumps(msgspec.to_builtins(problem_of(error))).replace("\x7f", "\\u007f")


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON; for errors that come before it could be read."""
    own = list(words[: words.index("--")] if "--" in words else words)
    names = ["--format"] if {"submit", "run"} & set(own) else ["--format", "--output"]  # there it is the result's place
    return "--json" in own or any(f"{name}=json" in own or (name, "json") in pairwise(own) for name in names)
