"""What an agent remembers: one folder, one agent; starts are counted and survive a crash (P9)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ffrtmp import wire
from ffrtmp.errors import Exit, FarmError
from ffrtmp_agent.state import NodeIdentity, StateFolder

HOLDER = """
import sys
from pathlib import Path
from ffrtmp_agent.state import StateFolder
with StateFolder(Path(sys.argv[1])) as state:
    print(state.next_incarnation(), flush=True)
    sys.stdin.read()
"""


def test_p9_two_agents_cannot_share_a_state_folder(tmp_path):
    folder = tmp_path / "state"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "1\n"
        with pytest.raises(FarmError, match="another agent uses the state folder") as refused:
            StateFolder(folder)
        assert refused.value.code == Exit.REFUSED and "stop it first" in refused.value.hint
    finally:
        other.kill()  # as a crash would
        other.communicate()
    with StateFolder(folder) as state:
        assert state.next_incarnation() == 2


def test_p9_a_child_process_does_not_keep_the_lock(tmp_path):
    with StateFolder(tmp_path) as state:
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            state.close()
            with StateFolder(tmp_path) as again:
                assert again.next_incarnation() == 1
        finally:
            child.kill()
            child.wait()


def test_starts_are_counted_up_and_never_twice_the_same(tmp_path):
    counted = []
    for _ in range(5):
        with StateFolder(tmp_path) as state:
            counted.append(state.next_incarnation())
    assert counted == [1, 2, 3, 4, 5]


def test_what_was_noted_is_found_again_and_leaves_no_half_file(tmp_path):
    seen, identity = wire.Seen("a-lineage", 41, 7), NodeIdentity("tcp://10.1.2.3:8081", "k" * 40, "camera")
    with StateFolder(tmp_path) as state:
        assert state.seen() == wire.Seen() and state.identity() is None
        keys = state.keys()
        state.save_seen(seen)
        state.save_identity(identity)
    with StateFolder(tmp_path) as state:
        assert (state.seen(), state.identity(), state.keys()) == (seen, identity, keys)
    assert {each.name for each in tmp_path.iterdir()} == {"lock", "agent.key", "seen.json", "identity.json"}


def test_noting_the_same_again_writes_nothing(tmp_path):
    with StateFolder(tmp_path) as state:
        state.save_seen(wire.Seen("a", 1, 1))
        first = (tmp_path / "seen.json").stat().st_ino
        state.save_seen(wire.Seen("a", 1, 1))
        assert (tmp_path / "seen.json").stat().st_ino == first


@pytest.mark.parametrize("name", ["incarnation", "seen.json", "identity.json"])
def test_a_damaged_file_is_named_with_a_hint(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"lin')
    with StateFolder(tmp_path) as state, pytest.raises(FarmError, match=f"{name} is damaged") as damaged:
        (state.next_incarnation(), state.seen(), state.identity())
    assert damaged.value.hint


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FarmError, match="cannot use the state folder"):
        StateFolder(tmp_path / "file" / "state")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
