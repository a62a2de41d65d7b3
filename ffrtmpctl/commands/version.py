"""Versions of both ends."""

from __future__ import annotations

from argparse import Namespace

import msgspec

import ffrtmp
from ffrtmp.api import Version
from ffrtmp.errors import Exit, FarmError

from ..client import decode
from ..context import Context


def version(args: Namespace, context: Context) -> int:
    """Ours for certain, the master's where one answers."""
    try:
        body = context.master.call("GET", "/v1/version").body
    except FarmError as error:
        if error.code != Exit.NO_MASTER:
            raise
        return _tell_ours(context, error.what)
    if context.json:
        context.document(msgspec.json.encode({"ffrtmpctl": ffrtmp.__version__, "master": msgspec.Raw(body)}))
        return Exit.DONE
    answer = decode(body, Version)
    context.say(f"ffrtmpctl {ffrtmp.__version__}")
    context.say(f"master {answer.version}, protocol {answer.protocol}, at {context.master.address}")
    return Exit.DONE


def _tell_ours(context: Context, why: str) -> int:
    if context.json:
        context.document(msgspec.json.encode({"ffrtmpctl": ffrtmp.__version__, "master": None}))
    else:
        context.say(f"ffrtmpctl {ffrtmp.__version__}")
        context.say(f"master unknown: {why}")
    return Exit.DONE
