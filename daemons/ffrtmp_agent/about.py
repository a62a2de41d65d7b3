"""What the agent says of its host: measured at the start, and again when something changes."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import msgspec

from ffrtmp import wire
from ffrtmp.config_agent import AgentConfig, MediaRoot
from ffrtmp.errors import FarmError
from ffrtmp.host import facts, limits, network
from ffrtmp.host.address import node_address
from ffrtmp.host.disk import read_space
from ffrtmp.host.survey import Survey

from .roots import root_identity
from .runner import Runner

log = logging.getLogger(__name__)
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Roots:
    """This node's media roots by identity; `names` are the names under which they are announced."""

    by_identity: Mapping[str, MediaRoot]
    names: Mapping[str, str]

    def facts(self) -> tuple[wire.RootFact, ...]:
        """As they are announced; free space in whole GiB, so that it is not news at every heartbeat."""
        return tuple(_root_fact(self.names[i], i, root) for i, root in sorted(self.by_identity.items()))


_NO_RIGHT = "the agent's user needs to write there once, also where jobs only read"
_NO_ROOM = "make room there: the agent keeps a small file in each root, and no job could write to it either"
_UNMARKED_HINTS = {
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "mount it so that the agent can write there once, also where jobs only read",
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
}


def find_roots(configured: Mapping[str, MediaRoot], fresh: UUID) -> Roots:
    """The roots that can be used. `fresh` supplies identities for those that have none; the others keep theirs.

    Raises FarmError where a configured root is no folder or cannot be marked: silently leaving it out would pin its
    jobs to other nodes for no visible reason.
    """
    by_identity: dict[str, MediaRoot] = {}
    names: dict[str, str] = {}
    for number, (name, root) in enumerate(sorted(configured.items())):
        if not root.path.is_dir():
            raise FarmError(f"media root {name}: {root.path} is no folder", hint="make it, or change media_roots")
        try:
            identity = str(root_identity(root.path, UUID(int=(fresh.int + number) % (1 << 128))))
        except OSError as error:
            raise FarmError(
                f"media root {name}: {root.path}/.ffrtmp cannot be written: {error.strerror}",
                hint=_UNMARKED_HINTS.get(error.errno or 0, "the agent marks each root once, also where jobs only read"),
            ) from error
        by_identity[identity] = root
        names[identity] = name
    return Roots(by_identity, names)


def _root_fact(name: str, identity: str, root: MediaRoot) -> wire.RootFact:
    try:
        free = read_space(root.path).free_bytes
    except OSError:
        free = 0
    return wire.RootFact(name, identity, str(root.path), root.read, root.write, free // GIB * GIB)


def capacity_of(config: AgentConfig, survey: Survey, roots: Roots) -> wire.Capacity:
    """What this node offers to jobs. Raises FarmError where its owner offers what is not there."""
    base = limits.capacity(
        facts.usable(),
        cpu=config.cpu,
        memory_bytes=config.memory,
        max_concurrent_jobs=config.max_concurrent_jobs,
    )
    announced = roots.facts()
    known = set(survey.abilities.input_protocols)
    return msgspec.structs.replace(
        base,
        encoders=survey.encoders,
        engines=survey.engines,
        protocols=tuple(p for p in config.protocols if p in known),
        roots=announced,
        scratch_bytes=max((r.free_bytes for r in announced if r.writable), default=0),
        labels=tuple(sorted(config.labels)),
        allow_run=config.allow_run,
    )


def facts_of(survey: Survey, runner: Runner, route: network.Route) -> wire.Facts:
    """What this node is, for people to read."""
    return facts.measure(
        ffmpeg=survey.abilities.version,
        runner=runner.name,
        confinement=runner.confinement,
        unenforced=runner.unenforced,
        interface=route.interface,
        link_speed_mbps=route.link_speed_mbps,
    )


def address_of(config: AgentConfig, joined_as: str, route: network.Route) -> str:
    """The node's address: what its configuration says, else what `join` was told, else its route's to the master."""
    said = config.address or joined_as
    return node_address(said) if said else route.source


def cache_of(state_dir: Path) -> Path:
    """Where the survey of ffmpeg is kept."""
    return state_dir / "survey.json"
