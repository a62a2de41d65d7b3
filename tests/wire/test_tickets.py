"""A ticket lets one host in, once, until it expires; asking again is harmless (the answer may have been lost)."""

from __future__ import annotations

import pytest

from ffrtmp import wire
from ffrtmp.errors import FarmError
from ffrtmp.keys import KeyPair
from ffrtmp_master.rows import TicketRow
from ffrtmp_master.tickets import Entry, Tickets

ONCE, HOST, OTHER = (KeyPair.generate().public for _ in range(3))
NOW = 1000.0


def out(**more) -> Tickets:
    return Tickets([TicketRow(ONCE, NOW + 60, **more)])


def test_a_ticket_lets_its_host_in_again_and_nobody_else():
    tickets = out()
    assert tickets.judge(ONCE, wire.Enroll(HOST, "camera"), NOW) == Entry("camera", "")
    row = tickets.use(ONCE, HOST)
    assert row.used_for == HOST
    again = Tickets([row])  # after a restart of the master
    for each in (tickets, again):
        assert each.judge(ONCE, wire.Enroll(HOST, "camera"), NOW + 1) == Entry("camera", "")
        refused = each.judge(ONCE, wire.Enroll(OTHER, "camera"), NOW + 1)
        assert isinstance(refused, wire.Sorry) and refused.status == 409 and "invite" in refused.hint


def test_a_ticket_ends_with_its_time_or_when_it_is_taken_back():
    tickets = out()
    assert tickets.admits(ONCE, NOW + 59.9) and not tickets.admits(ONCE, NOW + 60) and not tickets.admits(HOST, NOW)
    assert tickets.judge(ONCE, wire.Enroll(HOST, "camera"), NOW + 60).status == 403
    assert tickets.sweep(NOW) == () and tickets.sweep(NOW + 60) == (ONCE,)
    tickets.add(TicketRow(ONCE, NOW + 60))
    assert tickets.revoke(ONCE) and not tickets.admits(ONCE, NOW) and not tickets.revoke(ONCE)


def test_what_the_inviter_said_goes_before_what_the_host_says():
    named = out(name="camera", replace="camera-old")
    assert named.judge(ONCE, wire.Enroll(HOST, ""), NOW) == Entry("camera", "camera-old")
    assert named.judge(ONCE, wire.Enroll(HOST, "door"), NOW).status == 409
    assert named.judge(ONCE, wire.Enroll(HOST, "camera", replace="door"), NOW).status == 409
    assert out().judge(ONCE, wire.Enroll(HOST, "", replace="door"), NOW) == Entry("door", "door")
    assert out().judge(ONCE, wire.Enroll(HOST, ""), NOW).status == 400


@pytest.mark.parametrize(
    "key", ["", "short", ONCE, "~" * 40, "é" * 40], ids=["none", "short", "its own", "no Z85", "no ASCII"]
)
def test_only_a_key_of_its_own_makes_a_node(key):
    assert out().judge(ONCE, wire.Enroll(key, "camera"), NOW).status == 400


def test_what_is_no_key_cannot_be_a_ticket():
    with pytest.raises(FarmError):
        Tickets().add(TicketRow("short", NOW))
