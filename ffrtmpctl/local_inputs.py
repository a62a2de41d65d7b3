"""Inputs that are not there, told before anything is submitted, where that can be known for certain here.

The storage may be another host's, even under the same path: every host may have a /srv/media of its own. So a path that is
missing here says something only where it lies in a media root of this host, and all nodes that announce a root for this
path mean that very storage, by its identity. In all other cases the node says it, at the first hand-out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ffrtmp.api import NodeView, Page, RootView
from ffrtmp.errors import Exit, FarmError

from .client import Master, decode, pages


def refuse_absent(master: Master, inputs: Iterable[str]) -> None:
    """Raise FarmError (NOT_FOUND) for the first absolute path that names a file which is certainly not there.

    The nodes are asked for only when a path is missing here.
    """
    announced: list[RootView] | None = None
    for text in inputs:
        path = Path(text)
        if not path.is_absolute() or not _is_absent(path) or (here := _root_of(path)) is None:
            continue
        if announced is None:
            announced = _announced(master)
        meant = [(Path(root.path), root.identity) for root in announced if path.is_relative_to(root.path)]
        if meant and all(each == here for each in meant):
            raise FarmError(
                f"there is no file {text}", hint="check the path; nothing was submitted", code=Exit.NOT_FOUND
            )


def _is_absent(path: Path) -> bool:
    """Whether there is nothing; what one may not look at may be there, and what can be no path the master refuses."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _root_of(path: Path) -> tuple[Path, str] | None:
    """The media root of this host that the path lies in, and its identity."""
    for folder in path.parents:
        try:
            return folder, (folder / ".ffrtmp" / "root-id").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
    return None


def _announced(master: Master) -> list[RootView]:
    bodies = pages(master, "/v1/nodes", {"limit": 1000})
    return [root for body in bodies for node in decode(body, Page[NodeView]).items for root in node.roots]
