"""Storages of a simulated world: one that all hosts share, and one of each host's own. Names mean outputs; nothing is half there.

`rename` is the moment of P2 and P3: who watches is told before it happens. A rename is on disk once the folder was synced; on a
host's own storage a power cut may take back one that was not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ffrtmp.spec import Fingerprint

SHARED = "root-1"
FOREIGN = Fingerprint(7, "somebody's own")  # a file that no job made


@dataclass
class Root:
    """One storage: outputs by path, staging folders by name (JOB.ATTEMPT)."""

    identity: str
    outputs: dict[str, Fingerprint] = field(default_factory=dict)
    staging: dict[str, str] = field(default_factory=dict)  # name -> the UUID of the job whose it is
    unsynced: dict[str, tuple[Fingerprint | None, str, str]] = field(
        default_factory=dict
    )  # path -> what stood, staging, uuid

    def rename(self, name: str, path: str, made: Fingerprint) -> None:
        """The staged output goes to its place."""
        self.unsynced[path] = (self.outputs.get(path), name, self.staging[name])
        self.outputs[path] = made

    def sync(self, path: str) -> None:
        """The rename is on disk."""
        self.unsynced.pop(path, None)

    def power_cut(self, keeps: Callable[[], bool]) -> list[str]:
        """Take back renames that were not synced, as `keeps` says; the UUIDs of their jobs."""
        lost = []
        for path, (before, name, uuid) in list(self.unsynced.items()):
            if keeps():
                continue
            lost.append(uuid)
            self.staging[name] = uuid
            if before is None:
                self.outputs.pop(path, None)
            else:
                self.outputs[path] = before
        self.unsynced.clear()
        return lost


@dataclass
class Media:
    """All storages, by identity."""

    roots: dict[str, Root] = field(default_factory=lambda: {SHARED: Root(SHARED)})

    def root(self, identity: str) -> Root:
        """One of them; made when it is first asked for."""
        return self.roots.setdefault(identity, Root(identity))
