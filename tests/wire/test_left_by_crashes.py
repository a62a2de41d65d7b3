"""What a program wrote beside a file's place and did not live to put there is cleared by the next one."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

from ffrtmp import wire
from ffrtmp.keys import load_or_make_keys
from ffrtmp_agent.jobfile import write_durably
from ffrtmp_agent.outbox import Outbox
from ffrtmp_agent.roots import root_identity
from ffrtmp_agent.state import StateFolder


def _dies_before_the_rename(path: Path, content: bytes) -> None:
    """Write a file as an agent does that is killed when it is about to put it at its place."""
    pid = os.fork()
    if pid == 0:
        Path.rename = lambda *_: os._exit(9)
        try:
            write_durably(path, content)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert len(list(path.parent.glob(f".{path.name}.*"))) == 1


def test_an_outbox_item_that_was_never_said_is_cleared_and_the_others_are_kept(tmp_path):
    outbox = Outbox(tmp_path / "outbox")
    uuid = str(uuid4())
    kept = wire.Ended(1, f"{uuid}.1.ended", uuid, 1, "stopped")
    outbox.put(kept.item, kept)
    _dies_before_the_rename(outbox.folder / f"{uuid}.2.ended", b"half")
    assert Outbox(tmp_path / "outbox").load() == {kept.item: kept}
    assert [path.name for path in outbox.folder.iterdir()] == [kept.item]


def test_a_state_folder_keeps_nothing_half_written(tmp_path):
    with StateFolder(tmp_path / "state") as state:
        state.next_incarnation()
        state.keys()
        known = sorted(path.name for path in state.path.iterdir())
    _dies_before_the_rename(state.path / "incarnation", b"2\n")
    with StateFolder(state.path):
        assert sorted(path.name for path in state.path.iterdir()) == known


def test_a_second_copy_of_a_key_does_not_stay(tmp_path):
    keys = load_or_make_keys(tmp_path / "hub.key")
    (tmp_path / ".hub.key.123.new").hardlink_to(tmp_path / "hub.key")
    assert load_or_make_keys(tmp_path / "hub.key") == keys
    assert [path.name for path in tmp_path.iterdir()] == ["hub.key"]


def test_a_root_has_one_identity_and_no_draft_of_another(tmp_path):
    (tmp_path / ".ffrtmp").mkdir()
    dead, first, second = uuid4(), uuid4(), uuid4()
    (tmp_path / ".ffrtmp" / f".root-id-{dead}").write_text(f"{dead}\n")
    assert root_identity(tmp_path, first) == first
    assert [path.name for path in (tmp_path / ".ffrtmp").iterdir()] == ["root-id"]
    (tmp_path / ".ffrtmp" / f".root-id-{dead}").write_text(f"{dead}\n")
    assert root_identity(tmp_path, second) == first == UUID((tmp_path / ".ffrtmp" / "root-id").read_text().strip())
    assert [path.name for path in (tmp_path / ".ffrtmp").iterdir()] == ["root-id"]
