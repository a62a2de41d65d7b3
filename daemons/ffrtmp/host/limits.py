"""How much of this host jobs may have: what its owner says, else what was measured less a reserve for the host."""

from __future__ import annotations

from ffrtmp.errors import Exit, FarmError
from ffrtmp.host.disk import size_text
from ffrtmp.host.facts import Usable
from ffrtmp.wire import Capacity

_RESERVE_LEAST_BYTES = 256 << 20
_RESERVE_MOST_BYTES = 4 << 30


def reserve_bytes(memory_bytes: int) -> int:
    """The memory that is kept for the system and the agent: a tenth, from 256 MiB to 4 GiB, never more than half."""
    return min(max(memory_bytes // 10, _RESERVE_LEAST_BYTES), _RESERVE_MOST_BYTES, memory_bytes // 2)


def capacity(room: Usable, *, cpu: float = 0.0, memory_bytes: int = 0, max_concurrent_jobs: int = 0) -> Capacity:
    """The capacity to declare: cores, memory and slots; the caller adds what else the node offers.

    `cpu` is in cores. Zero means by measure: all usable cores, memory less the reserve, a slot for each offered core.
    More cores than there are may be offered, since they only make jobs slower; more memory than there is may not, since
    jobs would be killed for it: that raises FarmError.
    """
    if cpu < 0 or memory_bytes < 0 or max_concurrent_jobs < 0:
        raise FarmError("what a host offers cannot be negative", hint="0 means by measure", code=Exit.CONFIG)
    if memory_bytes > room.memory_bytes:
        raise FarmError(
            f"{size_text(memory_bytes)} of memory cannot be offered: this host has {size_text(room.memory_bytes)}",
            hint="offer less, or leave memory out: what there is less a reserve is offered then",
            code=Exit.CONFIG,
        )
    cpu_milli = round(cpu * 1000) or room.cpu_milli
    return Capacity(
        cpu_milli=cpu_milli,
        memory_bytes=memory_bytes or room.memory_bytes - reserve_bytes(room.memory_bytes),
        slots=max_concurrent_jobs or max(1, cpu_milli // 1000),
    )
