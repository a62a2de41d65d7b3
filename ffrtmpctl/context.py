"""What a command is given beside its arguments: the master, where to write, and in which form."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

import msgspec

from ffrtmp.errors import FarmError

from .address import Address
from .client import Master
from .render import clean


@dataclass(frozen=True)
class Context:
    """One invocation. `out` is for answers, `err` for remarks and errors."""

    master: Master
    out: TextIO
    err: TextIO
    json: bool
    debug: bool = False

    def say(self, line: str) -> None:
        """An answer's line."""
        self.out.write(clean(line) + "\n")

    def note(self, line: str) -> None:
        """A remark that is no part of the answer."""
        self.out.flush()
        self.err.write(clean(line) + "\n")
        self.err.flush()

    def document(self, body: bytes) -> None:
        """A JSON answer, indented for people, the same document for programs."""
        self.out.write(msgspec.json.format(body, indent=2).decode() + "\n")

    def line(self, body: bytes) -> None:
        """A JSON answer on one line, where many follow each other."""
        self.out.write(msgspec.json.format(body, indent=-1).decode() + "\n")

    def report(self, error: FarmError) -> None:
        """Say an error: what went wrong, and what to do; as a problem document where JSON was asked for."""
        if self.json:
            from .problems import as_line

            self.note(as_line(error))
            return
        self.note(f"ffrtmpctl: {error.what}")
        if error.hint:
            self.note(f"hint: {error.hint}")


Command = Callable[[Namespace, Context], int]


def context_of(args: Namespace, out: TextIO, err: TextIO) -> Context:
    """The context that the common options ask for; raises FarmError for an address that is none."""
    master = Master(Address.parse(args.master), timeout_s=args.timeout)
    return Context(master, out, err, json=args.format == "json", debug=args.debug)
