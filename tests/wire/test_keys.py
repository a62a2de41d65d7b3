"""Keys are private files; tickets are one line that notices mistakes (P12: nothing secret leaks, nothing damaged works)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffrtmp.errors import Exit, FarmError
from ffrtmp.keys import KeyPair, Ticket, check_key, fingerprint, load_keys, load_or_make_keys

NOW = 1_800_000_000
TICKET = Ticket("tcp://farm.example:8081", KeyPair.generate().public, KeyPair.generate(), NOW + 3600, "camera-7")


def test_a_key_file_is_made_once_and_private(tmp_path):
    path = tmp_path / "agent.key"
    before = os.umask(0)
    try:
        first = load_or_make_keys(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_make_keys(path) == first == load_keys(path)
    assert [each.name for each in tmp_path.iterdir()] == ["agent.key"]


MAKE = """
import sys
from pathlib import Path
from ffrtmp.keys import load_or_make_keys
sys.stdin.read()
print(load_or_make_keys(Path(sys.argv[1])).public)
"""


def test_programs_that_make_a_key_at_the_same_time_get_the_same_one(tmp_path):
    command = [sys.executable, "-c", MAKE, str(tmp_path / "agent.key")]
    makers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        for maker in makers:
            maker.stdin.close()
        assert len({maker.stdout.read() for maker in makers}) == 1
    finally:
        for maker in makers:
            maker.kill()
            maker.wait()
            maker.stdout.close()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_file_that_others_can_use_is_refused_with_a_hint(tmp_path, mode):
    path = tmp_path / "agent.key"
    load_or_make_keys(path)
    path.chmod(mode)
    with pytest.raises(FarmError, match="can be read or written by others") as refused:
        load_keys(path)
    assert "chmod 600" in refused.value.hint and refused.value.code == Exit.CONFIG


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 40, b"~" * 40, b"0" * 41])
def test_a_damaged_key_file_is_said_to_be_damaged_and_not_replaced(tmp_path, content):
    path = tmp_path / "agent.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(FarmError, match="is damaged"):
        load_or_make_keys(path)
    assert path.read_bytes() == content


def test_a_missing_or_odd_key_file_is_an_error_in_words(tmp_path):
    with pytest.raises(FarmError, match=r"cannot read the key file .*: No such file"):
        load_keys(tmp_path / "none")
    with pytest.raises(FarmError, match="cannot make the key file"):
        load_or_make_keys(tmp_path / "no-folder" / "key")


def test_secrets_are_not_shown():
    pair = KeyPair.generate()
    assert pair.secret not in repr(pair) and TICKET.keys.secret not in repr(TICKET)


def test_a_fingerprint_is_short_and_needs_no_quotes():
    pair = KeyPair.generate()
    assert fingerprint(pair.public) == fingerprint(pair.public) != fingerprint(KeyPair.generate().public)
    assert fingerprint(pair.public).replace("-", "").isalnum() and len(fingerprint(pair.public)) == 39


@given(st.text(max_size=60))
def test_what_is_no_key_is_refused(text):
    try:
        assert check_key(text) == text and len(text) == 40
    except FarmError as error:
        assert error.code == Exit.USAGE


def test_a_ticket_survives_being_sent_by_mail():
    text = TICKET.text
    broken_up = "  " + "\r\n> ".join([text[:60], text[60:]]).replace("> ", "\t") + " \n"
    assert Ticket.parse(broken_up, NOW) == TICKET
    assert text.isascii() and " " not in text and "\n" not in text


@given(st.integers(8, len(TICKET.text) - 1), st.characters(exclude_categories=["Z", "C"]))
def test_one_mistyped_letter_of_a_ticket_is_noticed(at, letter):
    text = TICKET.text[:at] + letter + TICKET.text[at + 1 :]
    if text == TICKET.text:
        return
    with pytest.raises(FarmError, match="damaged"):
        Ticket.parse(text, NOW)


@given(st.integers(8, len(TICKET.text) - 1))
def test_a_ticket_with_its_end_missing_is_noticed(length):
    with pytest.raises(FarmError, match="damaged") as refused:
        Ticket.parse(TICKET.text[:length], NOW)
    assert refused.value.code == Exit.REFUSED


@given(st.one_of(st.text(max_size=3000), st.text("f0123456789rtmp.-_ABC", max_size=3000)))
def test_p12_no_text_given_as_a_ticket_breaks_the_program(text):
    with pytest.raises(FarmError):
        Ticket.parse(text, NOW)


def test_what_is_no_ticket_and_what_is_of_another_release_is_said():
    with pytest.raises(FarmError, match="this is not a ticket"):
        Ticket.parse("hello", NOW)
    with pytest.raises(FarmError, match="version 2, this program knows version 1"):
        Ticket.parse(TICKET.text.replace("ffrtmp1", "ffrtmp2"), NOW)


def test_an_expired_ticket_says_so_and_what_to_do():
    assert Ticket.parse(TICKET.text, TICKET.expires_at - 0.001) == TICKET
    with pytest.raises(FarmError, match="expired 10 min ago") as refused:
        Ticket.parse(TICKET.text, TICKET.expires_at + 600)
    assert "nodes invite" in refused.value.hint and refused.value.code == Exit.REFUSED
