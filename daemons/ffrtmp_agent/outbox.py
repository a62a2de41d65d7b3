"""The outbox: what became of attempts, on disk until the master has acknowledged it.

One file an item, named after it, written whole and made durable before the item is said for the first time. An item that
cannot be read (a file of another version, a damaged disk) is set aside under another name and not said: its attempt
directory is still there, and is judged again.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import msgspec

from ffrtmp import wire

from .actions import Item
from .jobfile import clear_drafts, fsync, write_durably

log = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9A-Za-z-]{1,64}\.[1-9][0-9]{0,8}\.[a-z_]{1,20}")
_DECODER = msgspec.msgpack.Decoder(wire.Published | wire.NotPublished | wire.Ended)


class Outbox:
    """The items in `folder`. All methods raise OSError where the disk fails."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def put(self, item: str, message: Item) -> None:
        """Keep an item, durably."""
        if not _NAME.fullmatch(item):
            raise ValueError(f"{item!r} is no name of an item")
        write_durably(self.folder / item, wire.encode(message))

    def drop(self, item: str) -> None:
        """The item is acknowledged."""
        (self.folder / item).unlink(missing_ok=True)
        fsync(self.folder)

    def load(self) -> dict[str, Item]:
        """All items that are kept. What a crash left half written was never said, and goes."""
        clear_drafts(self.folder)
        found: dict[str, Item] = {}
        for path in sorted(self.folder.iterdir()):
            if not _NAME.fullmatch(path.name):
                continue
            try:
                found[path.name] = _DECODER.decode(path.read_bytes())
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                log.error("outbox item %s cannot be read and is set aside: %s", path.name, error)
                path.rename(path.with_name(f"{path.name}~damaged"))
        return found
