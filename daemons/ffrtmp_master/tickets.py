"""The tickets that are out: which one-time keys may say `Enroll`, and for which node key each was used.

Pure: time comes in, on the clock of the rows' `expires_s`, and what is to be kept goes out as rows. A used ticket stays
open until it expires, because the answer to `Enroll` may be lost on its way: the same host may then ask again, and gets
the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from ffrtmp import wire
from ffrtmp.errors import FarmError
from ffrtmp.keys import check_key

from .rows import TicketRow

TICKETS_MAX = 10_000
_INVITE = "ask for a new ticket: ffrtmpctl nodes invite"


class Entry(NamedTuple):
    """As what a host comes in: under which name, and whose place it takes (empty: nobody's)."""

    name: str
    replace: str


class Tickets:
    """All tickets that have not expired."""

    def __init__(self, rows: Iterable[TicketRow] = ()) -> None:
        """`rows` as they were kept."""
        self._rows = {row.public_key: row for row in rows}

    def add(self, row: TicketRow) -> None:
        """A new ticket. Raises FarmError when too many are out or its key is none."""
        if len(self._rows) >= TICKETS_MAX:
            raise FarmError(f"{TICKETS_MAX} tickets are out already", hint="wait until some have expired")
        self._rows[check_key(row.public_key)] = row

    def admits(self, public_key: str, now: float) -> bool:
        """Whether this one-time key may come in and enrol."""
        row = self._rows.get(public_key)
        return row is not None and now < row.expires_s

    def judge(self, public_key: str, enroll: wire.Enroll, now: float) -> wire.Sorry | Entry:
        """What comes of this `Enroll` over this one-time key: a refusal, or as what it is let in, now or once more."""
        row = self._rows.get(public_key)
        if row is None or now >= row.expires_s:
            return wire.Sorry(403, "the ticket has expired or was revoked", _INVITE)
        try:
            check_key(enroll.public_key)
        except FarmError as error:
            return wire.Sorry(400, error.what, error.hint)
        if enroll.public_key == public_key:
            return wire.Sorry(400, "the ticket's own key cannot be a node's", "enrol with `ffrtmp-agent join`")
        if row.used_for not in ("", enroll.public_key):
            return wire.Sorry(409, "the ticket was used already, by another host", _INVITE)
        return _entry(row, enroll)

    def use(self, public_key: str, node_key: str) -> TicketRow:
        """The ticket lets a node in: the row to keep, in the same commit as the node. Raises KeyError if unknown."""
        row = replace(self._rows[public_key], used_for=node_key)
        self._rows[public_key] = row
        return row

    def revoke(self, public_key: str) -> bool:
        """Take a ticket back; whether it was there."""
        return self._rows.pop(public_key, None) is not None

    def sweep(self, now: float) -> tuple[str, ...]:
        """Forget what has expired; the keys whose rows may be deleted."""
        gone = tuple(key for key, row in self._rows.items() if now >= row.expires_s)
        for key in gone:
            del self._rows[key]
        return gone


def _entry(row: TicketRow, enroll: wire.Enroll) -> wire.Sorry | Entry:
    """What the ticket says goes before what the host says, and the two must not contradict each other."""
    for word, of_ticket, of_host in (("name", row.name, enroll.name), ("replace", row.replace, enroll.replace)):
        if of_ticket and of_host not in ("", of_ticket):
            detail = f'the ticket says "{word}: {of_ticket}", this host says "{word}: {of_host}"'
            return wire.Sorry(409, detail, "join without saying it, or ask for another ticket")
    taken = row.replace or enroll.replace
    name = row.name or enroll.name or taken
    if not name:
        return wire.Sorry(400, "the host gives no name, and the ticket none either", "join with --name NAME")
    return Entry(name, taken)
