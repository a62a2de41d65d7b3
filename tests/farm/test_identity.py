"""One live session for each node key, one node in contact for each address (P9)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farm.stage import ROOM, WRONG, Host, Stage

from ffrtmp.farm import effects as fx
from ffrtmp.farm import events as ev
from ffrtmp.farm.job import State


def copy_of(host: Host, incarnation: int = 5, **fields) -> ev.Hello:
    """The Hello of another process with the same key."""
    return host.hello_event(connection=b"copy", incarnation=incarnation, reports=(), **fields)


def sorries(effects: list[fx.Effect]) -> list[fx.SendSorry]:
    return [e for e in effects if isinstance(e, fx.SendSorry)]


def later(stage: Stage, seconds: float = 0.1) -> list[fx.Effect]:
    stage.now_s += seconds
    said, stage.mail = stage.mail, []
    return stage.turn(*said)


def test_p9_a_copied_key_gets_409_while_the_first_lives():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    effects = stage.turn(copy_of(a))
    assert [type(e).__name__ for e in effects] == ["SendSign"], "the old session is asked first"
    (sorry,) = sorries(later(stage))
    assert sorry.connection == b"copy" and sorry.status == 409 and not sorry.retry
    assert "copy" in sorry.detail and "ffrtmpctl nodes invite" in sorry.hint
    stage.pass_s(10)
    assert stage.path(job) == ["queued", "assigned", "running"]


def test_p9_a_silent_old_session_gives_way_after_two_seconds_and_the_newcomer_finds_its_jobs():
    stage = Stage(sign_s=2.0)
    a = stage.node("a")
    job = stage.submit()
    a.leave()
    stage.pass_s(3)
    a.up = True
    a.connection, a.incarnation, a.session = b"a/2", 2, 0
    stage.turn(a.hello_event())
    assert a.session == 0
    stage.pass_s(1.5)
    assert a.session == 0
    stage.pass_s(1.0)
    assert a.session != 0
    assert stage.path(job) == ["queued", "assigned", "running"]


def test_p9_a_closed_old_connection_gives_way_at_once():
    stage = Stage()
    a = stage.node("a")
    old = bytes(bytearray(a.connection))
    a.connection, a.incarnation, a.session = b"a/2", 2, 0
    stage.turn(a.hello_event())
    for other in (b"", b"~", b"a/2"):
        stage.turn(ev.Unreachable(other))
    assert a.session == 0, "it is another connection that is closed"
    stage.turn(ev.Unreachable(old))
    assert a.session != 0


def test_the_last_words_of_a_killed_agent_are_not_taken_for_a_sign_of_life():
    stage = Stage(sign_s=2.0)
    a = stage.node("a")
    last_words = a.beat_event()
    a.connection, a.incarnation, a.session = b"a/2", 2, 0
    effects = stage.turn(a.hello_event(), last_words)
    assert not sorries(effects)
    stage.pass_s(2.5)
    assert a.session != 0


def test_an_agent_that_said_goodbye_is_followed_by_the_next_one_at_once():
    stage = Stage()
    a = stage.node("a")
    a.say(ev.Goodbye(*a._at()))
    answers = a.back()
    assert any(isinstance(e, fx.SendWelcome) for e in answers)


def test_p9_messages_of_an_old_session_change_nothing_and_are_answered():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    old = ev.Ended(*a._at(), "x", stage.job(job).uuid, 1, "failed", WRONG)
    effects = stage.turn(replace(old, session=12345))
    assert effects == [fx.SendNoSession(a.connection, 12345)]
    assert stage.state(job) is State.RUNNING
    effects = stage.turn(replace(old, connection=b"elsewhere"))
    assert effects == [fx.SendNoSession(b"elsewhere", a.session)]
    assert stage.state(job) is State.RUNNING


def test_p9_a_second_node_with_the_same_address_gets_409_and_is_told_what_to_do():
    stage = Stage()
    a = stage.node("a", address="10.1.1.1")
    b = stage.node("b", address="10.1.1.1")
    stage.pass_s(3)
    assert b.session == 0
    sorry = next(e for e in b.heard if isinstance(e, fx.SendSorry))
    assert sorry.status == 409 and "belongs to node a" in sorry.detail
    assert "--address" in sorry.hint and "remove" not in sorry.hint  # the one that is there is healthy
    assert stage.world.in_contact("a") is not None and a.session


def test_p9_an_address_is_free_when_its_node_is_silent_and_no_sooner_because_somebody_asks_for_it():
    stage = Stage(sign_s=2.0, lost_after_s=15.0)
    a = stage.node("a", address="10.1.1.1")
    job = stage.submit()
    a.leave()
    b = stage.node("b", address="10.1.1.1")
    stage.pass_s(12)
    assert b.session == 0 and stage.world.in_contact("a") is not None
    stage.pass_s(4)
    assert b.session != 0
    assert stage.world.in_contact("a") is None
    assert stage.where(job) == "b"


@pytest.mark.parametrize(("there", "comes"), [("a", "b"), ("b", "a")])
def test_p9_a_node_whose_connection_breaks_loses_its_address_to_nobody_who_waits_for_it(there, comes):
    stage = Stage(sign_s=2.0, lost_after_s=15.0)
    a = stage.node(there, address="10.1.1.1")
    b = stage.node(comes, address="10.1.1.1")
    job = stage.submit()
    stage.turn(b.hello_event())
    old, a.connection, a.session = a.connection, b"a/2", 0
    (sorry,) = sorries(stage.turn(ev.Unreachable(old)) + stage.turn(a.hello_event()))
    assert sorry.connection == b.connection and sorry.retry, "who wants its address may ask again"
    stage.turn(ev.Unreachable(old))
    assert a.session and not b.session
    stage.pass_s(20)
    assert stage.path(job) == ["queued", "assigned", "running"]
    assert stage.world.in_contact(there) is not None


@pytest.mark.parametrize(("there", "comes"), [("a", "b"), ("b", "a")])
def test_p9_a_closed_connection_frees_no_address_for_another_node(there, comes):
    stage = Stage(sign_s=2.0, lost_after_s=15.0)
    a = stage.node(there, address="10.1.1.1")
    b = stage.node(comes, address="10.1.1.1", hello=False)
    a.leave()
    stage.turn(b.hello_event())
    assert sorries(stage.turn(ev.Unreachable(a.connection))) == []
    assert not b.session and stage.world.in_contact(there) is not None, "it may be on its way back"


def test_p9_a_node_whose_address_changes_is_known_under_the_new_one_at_once_and_its_old_one_is_free():
    stage = Stage()
    a = stage.node("a", address="10.1.1.1")
    job = stage.submit()
    a.address = "10.1.1.9"
    assert any(isinstance(answer, fx.SendWelcome) for answer in a.hello()), "over the connection that it has"
    assert stage.world.nodes["a"].address == "10.1.1.9"
    assert stage.state(job) is State.RUNNING
    b = stage.node("b", address="10.1.1.1")
    assert stage.world.in_contact("b") is not None and b.session


def test_p9_a_node_gets_no_address_of_another_by_moving_to_it():
    stage = Stage()
    stage.node("a", address="10.1.1.1")
    b = stage.node("b", address="10.1.1.2")
    b.address = "10.1.1.1"
    b.hello()
    assert stage.world.nodes["b"].address == "10.1.1.2", "a is asked for a sign first"


def test_p9_a_host_that_waited_for_an_address_and_has_another_by_now_does_not_get_the_first_in_the_end():
    stage = Stage()
    a = stage.node("a", address="10.1.1.1")
    b = stage.node("b", address="10.1.1.1")
    assert stage.world.in_contact("b") is None, "a is asked for a sign"
    a.leave()
    b.address = "10.1.1.2"
    b.hello()
    assert stage.world.nodes["b"].address == "10.1.1.2"
    stage.pass_s(30.0)
    assert stage.world.in_contact("a") is None
    assert stage.world.nodes["b"].address == "10.1.1.2"


@pytest.mark.parametrize("word", ["Hello", "heartbeat"])
def test_p11_a_host_that_had_the_address_of_another_for_a_moment_keeps_its_jobs(word):
    stage = Stage()
    b = stage.node("b", address="10.1.1.2")
    job = stage.submit()
    a = stage.node("a", address="10.1.1.1")
    a.leave()
    stage.turn(b.hello_event(address="10.1.1.1", reports=()))
    if word == "Hello":
        b.hello()
    else:
        b.beat()  # the answer to a Hello of before has let it go on
    stage.pass_s(30.0)
    assert stage.world.in_contact("a") is None
    assert stage.world.nodes["b"].address == "10.1.1.2"
    assert stage.path(job) == ["queued", "assigned", "running"]


def test_p9_a_hello_that_was_on_its_way_when_its_node_was_replaced_lets_the_old_host_in_no_more():
    stage = Stage()
    a = stage.node("a")
    late = a.hello_event(key=stage.world.nodes["a"].key, token=77)
    stage.turn(ev.AddNode(9, "a", "another key", replace=True), late)
    assert stage.world.in_contact("a") is None


def test_p9_a_newcomer_that_waits_for_one_rival_meets_the_other_too():
    stage = Stage(sign_s=2.0)
    a = stage.node("a", address="10.1.1.1")
    b = stage.node("b", address="10.1.1.2")
    b.leave()
    stage.turn(b.hello_event(connection=b"b/2", incarnation=2, address="10.1.1.1"))
    stage.pass_s(6)
    assert stage.world.in_contact("a") is not None and a.session
    assert stage.world.nodes["b"].address == "10.1.1.2", "a lives, and its address is its own"


def test_p9_a_lower_start_counter_gets_409_until_an_operator_accepts_it():
    stage = Stage()
    a = stage.node("a")
    a.back()
    stage.lose(a)
    a.incarnation = 0
    answers = a.back()
    (sorry,) = sorries(answers)
    assert sorry.status == 409 and sorry.hint.endswith("ffrtmpctl nodes accept a")
    assert stage.ask(ev.AcceptNode(0, "a")).status == 200
    assert any(isinstance(e, fx.SendWelcome) for e in a.hello())
    assert not stage.world.nodes["a"].accept_lower, "once"
    assert stage.ask(ev.AcceptNode(0, "z")).status == 404


def test_p9_one_key_is_one_node():
    stage = Stage()
    stage.node("a")
    assert stage.ask(ev.AddNode(0, "a", "key-a")).status == 200
    answer = stage.ask(ev.AddNode(0, "b", "key-a"))
    assert answer.status == 409 and "node a" in answer.detail
    answer = stage.ask(ev.AddNode(0, "a", "key-new"))
    assert answer.status == 409 and "join --replace a" in answer.hint


def test_a_reinstalled_host_takes_its_nodes_place():
    stage = Stage()
    a = stage.node("a")
    job = stage.submit()
    stage.node("b")
    assert stage.ask(ev.AddNode(0, "a", "key-new", replace=True)).status == 201
    assert stage.where(job) == "b"
    assert stage.world.contacts.get("a") is None
    a.incarnation = 0
    a.locals.clear()
    assert any(isinstance(e, fx.SendWelcome) for e in a.back())


def test_a_key_that_belongs_to_no_node_is_refused():
    stage = Stage()
    a = stage.node("a")
    stage.ask(ev.RemoveNode(0, "a", force=True))
    effects = stage.turn(a.hello_event())
    (sorry,) = sorries(effects)
    assert sorry.status == 403 and "nodes invite" in sorry.hint


def test_a_newcomer_whose_node_is_removed_while_it_waits_is_forgotten():
    stage = Stage(sign_s=2.0)
    a = stage.node("a", address="10.1.1.1")
    b = stage.node("b", address="10.1.1.1", hello=False)
    a.leave()
    stage.turn(b.hello_event())
    stage.ask(ev.RemoveNode(0, "b"))
    stage.pass_s(5)
    assert not len(stage.world.newcomers)


def test_a_newcomer_is_admitted_with_its_newest_words():
    stage = Stage(sign_s=2.0)
    a = stage.node("a")
    a.leave()
    hello = a.hello_event(connection=b"a/2", incarnation=2)
    stage.turn(hello)
    stage.now_s += 1.0
    stage.turn(replace(hello, capacity=replace(ROOM, cpu_milli=1)))
    stage.now_s += 1.5
    stage.turn()
    assert stage.world.nodes["a"].capacity.cpu_milli == 1


@pytest.mark.parametrize("names", ["abc", "acb", "bca", "cba"])
def test_p9_who_waits_for_an_address_may_say_hello_over_another_connection_and_a_third_node_waits_its_turn(names):
    stage = Stage(lost_after_s=15.0)
    a = stage.node(names[0], address="10.1.1.1")
    a.leave()
    b = stage.node(names[1], address="10.1.1.1", hello=False)
    c = stage.node(names[2], address="10.1.1.1", hello=False)
    stage.turn(b.hello_event())
    b.connection = b"b/2"
    assert sorries(stage.turn(b.hello_event())) == []
    (sorry,) = sorries(stage.turn(c.hello_event()))
    assert sorry.connection == c.connection and sorry.retry
    c.leave()
    stage.pass_s(18)
    assert b.session and stage.world.contacts[b.name].connection == b"b/2"


def test_p9_a_new_life_on_the_same_connection_is_no_repetition():
    stage = Stage()
    a = stage.node("a")
    effects = stage.turn(replace(a.hello_event(), incarnation=2))
    assert not any(isinstance(e, fx.SendWelcome) for e in effects), "the old life is asked for a sign"
    effects = stage.turn(a.hello_event())
    (welcome,) = [e for e in effects if isinstance(e, fx.SendWelcome)]
    assert welcome.session == a.session, "the same life again has its session"


def test_a_third_that_comes_while_a_newcomer_waits_is_told_to_try_again():
    stage = Stage()
    a = stage.node("a")
    effects = stage.turn(copy_of(a), replace(copy_of(a), connection=b"third"))
    (sorry,) = sorries(effects)
    assert sorry.connection == b"third" and sorry.retry
