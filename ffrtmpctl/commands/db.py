"""Back up the master's database while it works, and restore it while it does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from ffrtmp.api import Backup, BackupRequest
from ffrtmp.errors import Exit, FarmError

from ..client import NoMaster, Quiet
from ..context import Context
from ..render import size

PROGRAM = "ffrtmp-master"


def backup(args: Namespace, context: Context) -> int:
    """The master writes it, on its own host."""
    reply = context.master.call("POST", "/v1/db/backup", body=BackupRequest(path=args.path))
    if context.json:
        context.document(reply.body)
        return Exit.DONE
    answer = reply.into(Backup)
    context.say(f"backed up to {answer.path} and {answer.logs_path} ({size(answer.size_bytes)}, turn {answer.turn})")
    return Exit.DONE


def restore(args: Namespace, context: Context) -> int:
    """Hand over to the master's own program, which knows its database; refused while a master answers."""
    _refuse_running(context)
    if not Path(args.path).is_file():
        raise FarmError(f"{args.path} is no file", hint="name what `ffrtmpctl db backup` wrote", code=Exit.NOT_FOUND)
    place = [word for flag in ("state_dir", "db") for word in _flag(flag, getattr(args, flag))]
    command = [_program(), "--restore", args.path, *place]
    return subprocess.run(command, check=False).returncode


def _flag(name: str, value: str | None) -> list[str]:
    return [f"--{name.replace('_', '-')}", value] if value else []


def _refuse_running(context: Context) -> None:
    try:
        context.master.call("GET", "/v1/live", repeatable=False)
    except Quiet:
        pass  # it holds the socket, so it may hold the database
    except NoMaster:
        return
    except FarmError:
        pass  # whatever answers, somebody is there
    raise FarmError(
        f"a master answers at {context.master.address}; a database is restored while it is stopped",
        hint="stop it first (systemctl stop ffrtmp-master.socket ffrtmp-master.service where it is a service)",
        code=Exit.REFUSED,
    )


def _program() -> str:
    """The master's program, beside this one or on the path."""
    beside = (Path(each).with_name(PROGRAM) for each in (Path(sys.argv[0]).resolve(), sys.executable))
    places = [str(each) if each.is_file() else None for each in beside]
    found = places[0] or shutil.which(PROGRAM) or places[1]
    if found is None:
        hint = "run this on the master's host, where the package ffrtmp-master is"
        raise FarmError(f"{PROGRAM} is not installed here", hint=hint)
    return found
