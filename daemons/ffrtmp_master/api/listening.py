"""The Unix socket of the API, where systemd has not made it already."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from ffrtmp.errors import Exit, FarmError

MODE = 0o660


def unix_socket(path: Path, gid: int | None = None) -> socket.socket:
    """A bound socket at `path`, mode 0660, of group `gid` where given. What a dead master left there is replaced.

    Raises FarmError where a living one has it, where something else stands there, or where it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        # Bound under another name first, so that nobody connects before mode and group are right.
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        fresh.chmod(MODE)
        if gid is not None:
            os.chown(fresh, -1, gid)
        listener.listen(256)
        fresh.rename(path)
    except OSError as error:
        listener.close()
        raise FarmError(
            f"cannot listen at {path}: {error.strerror or error}",
            hint="check the folder, its owner and the path's length",
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    """Make sure that nobody answers at `path`."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FarmError(f"{path} is there and is no socket", hint="remove it, or choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return
    raise FarmError(f"another master listens at {path}", hint="stop it, or choose another --socket", code=Exit.REFUSED)
