"""What an agent may say. Its key is admitted, its words are not therefore sound: every number and list has a bound (P12).

What is beyond all sense is dropped as a whole, and nothing of it reaches the rules or the store. What is only too long to
be kept or shown (a line that a tool complained with) is shortened in `translate`, for a result must not be lost by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct

from ffrtmp import wire
from ffrtmp.farm.job import Priority, Queue
from ffrtmp.spec import Fingerprint

WHOLE_MOST = 1 << 62  # what the store can hold, with room for sums
OFFSET_MOST = 1 << 60  # bytes of one log
ATTEMPTS_MOST = 999_999_999  # of one job: what the names of attempt directories hold
LIST_MOST = 10_000
OFFERS_MOST = 500  # roots, encoders, protocols, ... that one node announces, of each
NAME_MOST = 255  # characters of what is a name or an address
DIGEST_MOST = 128
QUEUES = frozenset(queue.label for queue in Queue)
PRIORITIES = frozenset(priority.label for priority in Priority)
_ID_MOST = 64
_HARMLESS = frozenset({bool, str, bytes, type(None)})


def offence(message: wire.FromAgent, labels_max: int) -> str:
    """Why this is not taken, in words; empty for what is in order."""
    if isinstance(message, wire.LogChunk) and not 0 <= message.offset <= OFFSET_MOST:
        return "a place that no log has"
    if not 1 <= getattr(message, "attempt", 1) <= ATTEMPTS_MOST or len(getattr(message, "uuid", "")) > _ID_MOST:
        return "an attempt that cannot be"
    if isinstance(message, wire.AdoptionOffer) and not (message.queue in QUEUES and message.priority in PRIORITIES):
        return "a queue or priority that there is not"
    told = getattr(message, "capacity", None)
    if told is not None and (reason := _too_much(told, labels_max)):
        return reason
    if not is_address(getattr(message, "address", "")):
        return "an address that cannot be"
    for report in getattr(message, "attempts", ())[:LIST_MOST]:
        if not 1 <= report.attempt <= ATTEMPTS_MOST or len(report.uuid) > _ID_MOST:
            return "a report of an attempt that cannot be"
    return "" if _sound(message) else "a number or a list beyond all bounds"


def is_address(text: str) -> bool:
    """Whether this can be kept and shown as a node's address; whether it is one, connections show."""
    return len(text) <= NAME_MOST and text.isprintable()


def _too_much(capacity: wire.Capacity, labels_max: int) -> str:
    if len(capacity.labels) > labels_max:
        return f"{len(capacity.labels)} labels; at most {labels_max} are taken"
    for name in ("encoders", "engines", "protocols", "roots"):
        if len(getattr(capacity, name)) > OFFERS_MOST:
            return f"{len(getattr(capacity, name))} {name}; at most {OFFERS_MOST} are taken"
    return ""


def _sound(value: object) -> bool:
    """Whether all numbers in it are finite and can be stored, and no list is endless. Each heartbeat is gone through here."""
    kind = type(value)
    if kind in _HARMLESS:
        return True
    if kind is int:
        return -1 <= value <= WHOLE_MOST  # type: ignore[operator]  # an int it is
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]  # a float it is
    if isinstance(value, Struct):
        if isinstance(value, Fingerprint) and len(value.digest) > DIGEST_MOST:
            return False
        values: Iterable[object] = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, tuple | list) and len(value) <= LIST_MOST:
        values = value
    else:
        return False
    for each in values:  # noqa: SIM110  # `all` of a generator takes twice as long
        if not _sound(each):
            return False
    return True
