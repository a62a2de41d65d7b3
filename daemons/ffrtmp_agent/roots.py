"""Media roots on a node: their identity, and the inputs inside them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from ffrtmp.errors import FarmError
from ffrtmp_agent.folders import OURS, open_ours
from ffrtmp_agent.rename import NOREPLACE, rename

ROOT_ID = "root-id"


def root_identity(root: Path, fresh: UUID) -> UUID:
    """The identity of a media root; `fresh` becomes it when it has none. Agents that race agree on one.

    Raises FarmError when the root cannot be used, OSError when it cannot be written to.
    """
    with open_ours(root, make=True) as ours:
        found = _read_identity(ours)
        if found is not None:
            _clear_drafts(ours)
            return found
        _propose(ours, fresh)
        found = _read_identity(ours)
        if found is not None:
            _clear_drafts(ours)
    if found is None:
        raise FarmError(f"{root}/{OURS}/{ROOT_ID} holds no identity", hint="remove it and start the agent again")
    return found


def _propose(ours: int, fresh: UUID) -> None:
    """Make `fresh` the identity unless another agent is first. Raises OSError, and leaves no draft then."""
    draft = f".{ROOT_ID}-{fresh}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=ours)
        try:
            os.write(descriptor, f"{fresh}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError, FileNotFoundError):  # another was first, and its word counts
            rename(ours, draft, ours, ROOT_ID, NOREPLACE)
        os.fsync(ours)
    except OSError:
        with suppress(OSError):
            os.unlink(draft, dir_fd=ours)
        raise


def _clear_drafts(ours: int) -> None:
    """Once a root has its identity no other can become it: what agents that died, or came second, have written goes."""
    with suppress(OSError):  # a root that is only read
        for name in os.listdir(ours):
            if name.startswith(f".{ROOT_ID}-"):
                os.unlink(name, dir_fd=ours)


def input_inside(root: Path, relative: str) -> Path:
    """The real path of an input. Links may lead to other places inside the root, not out of it and not to our own.

    Raises FarmError. Whether it is there is for the engine to say.
    """
    base = root.resolve()
    found = (base / relative).resolve()
    if not found.is_relative_to(base) or found == base or found.relative_to(base).parts[0] == OURS:
        raise FarmError(f"{relative!r} leads out of the media root", hint="name a file inside the root")
    return found


def _read_identity(ours: int) -> UUID | None:
    try:
        descriptor = os.open(ROOT_ID, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=ours)
    except FileNotFoundError:
        return None
    try:
        return UUID(os.read(descriptor, 100).decode("ascii", "replace").strip())
    except ValueError:
        return None
    finally:
        os.close(descriptor)
