"""Staging and publishing: P2 and P3 at the file system, whatever links, races and crashes there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from runner.yard import Yard

from daemons import strace
from ffrtmp.errors import FarmError
from ffrtmp.spec import Fingerprint
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.claims import Intent
from ffrtmp_agent.media.fingerprint import fingerprint
from ffrtmp_agent.rename import EXCHANGE, NOREPLACE, rename_without_flags
from ffrtmp_agent.roots import input_inside, root_identity
from ffrtmp_agent.staging import NotPublishedError, Place, TargetExistsError

MEDIA = b"a whole film"


class Output:
    """An attempt whose output is staged and verified."""

    def __init__(self, yard: Yard, relative: str = "out.mp4", name: str = "1.1") -> None:
        self.directory = yard.attempt("exit 0", name=name)
        self.place = Place(yard.root, name, relative)

    def stage(self, content: bytes = MEDIA) -> Output:
        self.place.staged.write_bytes(content)
        return self

    def intent(self, *, overwrite: bool = False) -> Intent:
        return Intent(1, fingerprint(self.place.staged), overwrite)

    def publish(self, *, overwrite: bool = False, until_s: float = 1.0) -> None:
        self.place.publish(self.directory, self.intent(overwrite=overwrite), until_s=until_s, clock=lambda: 0.0)


def test_p3_an_output_comes_to_its_place_whole_and_its_folders_are_made(yard: Yard):
    output = Output(yard, "films/2026/out.mp4").stage()
    output.publish()
    assert (yard.root / "films/2026/out.mp4").read_bytes() == MEDIA
    assert not output.place.staging.exists()
    assert output.directory.intent() is not None


def test_p3_a_folder_of_pictures_comes_to_its_place_as_a_whole(yard: Yard):
    output = Output(yard, "thumbs")
    output.place.staged.mkdir()
    for number in range(3):
        (output.place.staged / f"{number}.jpg").write_bytes(b"picture")
    output.publish()
    assert sorted(one.name for one in (yard.root / "thumbs").iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]


def test_p3_a_foreign_file_at_the_output_path_is_never_replaced_unasked(yard: Yard):
    (yard.root / "out.mp4").write_bytes(b"foreign")
    output = Output(yard).stage()
    with pytest.raises(TargetExistsError) as caught:
        output.publish()
    assert "overwrite" in caught.value.hint
    assert (yard.root / "out.mp4").read_bytes() == b"foreign"
    assert output.place.staged.read_bytes() == MEDIA
    assert output.directory.intent() is None


@pytest.mark.parametrize("old", ["file", "folder", "link", "nothing"])
def test_p3_overwriting_exchanges_and_removes_the_old_one(yard: Yard, old: str):
    target, other = yard.root / "out.mp4", yard.root / "other"
    other.write_bytes(b"other")
    if old == "file":
        target.write_bytes(b"old")
    elif old == "folder":
        target.mkdir()
        (target / "old").write_bytes(b"old")
    elif old == "link":
        target.symlink_to(other)
    output = Output(yard).stage()
    output.publish(overwrite=True)
    assert target.read_bytes() == MEDIA
    assert not target.is_symlink()
    assert other.read_bytes() == b"other"
    assert not output.place.staging.exists()


@pytest.mark.parametrize("relative", ["../x", "/etc/x", "a/../../x", "a//b", ".ffrtmp/root-id", "", ".", "a/.", "a\0b"])
def test_p12_an_output_path_that_leads_out_of_its_root_is_refused(yard: Yard, relative: str):
    with pytest.raises(FarmError):
        Place(yard.root, "1.1", relative)


@pytest.mark.parametrize("linked", ["films", "films/2026"])
def test_p12_a_link_on_the_way_to_the_output_leads_nowhere(yard: Yard, linked: str):
    outside = yard.base / "outside"
    outside.mkdir()
    (yard.root / linked).parent.mkdir(exist_ok=True)
    (yard.root / linked).symlink_to(outside)
    output = Output(yard, "films/2026/out.mp4").stage()
    with pytest.raises(FarmError) as caught:
        output.publish()
    assert "link" in caught.value.what
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("trick", ["link", "linked content", "pipe", "hard link"])
def test_p12_a_staged_output_that_is_no_plain_file_is_not_published(yard: Yard, trick: str):
    secret = yard.base / "secret"
    secret.write_bytes(b"secret")
    output = Output(yard)
    staged = output.place.staged
    if trick == "link":
        staged.symlink_to(secret)
    elif trick == "hard link":
        staged.hardlink_to(secret)
    elif trick == "pipe":
        os.mkfifo(staged)
    else:
        staged.mkdir()
        (staged / "0.jpg").symlink_to(secret)
    intent = Intent(1, Fingerprint(6, "aa"))
    with pytest.raises(FarmError):
        output.place.publish(output.directory, intent, until_s=1.0, clock=lambda: 0.0)
    assert not (yard.root / "out.mp4").exists()


def test_p2_nothing_is_renamed_when_the_grant_is_over(yard: Yard):
    output = Output(yard).stage()
    with pytest.raises(NotPublishedError):
        output.publish(until_s=0.0)
    assert not (yard.root / "out.mp4").exists()
    assert output.directory.intent() is None
    assert output.place.staged.read_bytes() == MEDIA


def test_p2_a_late_rename_of_a_node_that_was_stopped_fails_after_another_has_settled(yard: Yard):
    """The clock is the last thing that is looked at: what happens in it happens while the agent stands still."""
    output = Output(yard).stage()
    settled = []

    def stands_still() -> float:
        settled.append(Place(yard.root, "1.1", "out.mp4").settle())
        return 0.0

    with pytest.raises(NotPublishedError):
        output.place.publish(output.directory, output.intent(), until_s=1.0, clock=stands_still)
    assert settled == [None]
    assert not (yard.root / "out.mp4").exists()
    assert output.directory.intent() is None


def test_p2_settling_finds_what_was_published_before(yard: Yard):
    output = Output(yard).stage()
    made = output.intent().fingerprint
    output.publish()
    assert Place(yard.root, "1.1", "out.mp4").settle() == made
    assert sorted(one.name for one in (yard.root / ".ffrtmp").iterdir()) == []


def test_settling_says_nothing_where_something_impossible_stands(yard: Yard):
    Output(yard)
    (yard.root / "out.mp4").symlink_to("/etc/passwd")
    assert Place(yard.root, "1.1", "out.mp4").settle() is None


def test_p5_a_staging_folder_goes_whole_when_another_takes_a_file_out_of_it_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its own agent comes back and clears it while another node settles."""
    place = Place(tmp_path, "1.1", "out")
    place.staged.mkdir(parents=True)
    for number in range(3):
        (place.staged / str(number)).touch()
    unlink = os.unlink

    def late(name: str, *, dir_fd: int) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        unlink(name, dir_fd=dir_fd)  # by the other
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", late)
    place.settle()
    assert os.unlink is unlink
    assert list((tmp_path / ".ffrtmp").iterdir()) == []


def test_p5_one_settled_folder_that_cannot_be_cleared_keeps_no_other(tmp_path: Path):
    ours = tmp_path / ".ffrtmp"
    for name in (".settled-1.1-a", ".settled-3.1-a", ".settled-4.1-b", "5.1-a"):
        (ours / name).mkdir(parents=True)
    (ours / ".settled-2.1-a").symlink_to(tmp_path)
    with pytest.raises(OSError):
        Place.sweep_settled(tmp_path, "a")
    assert sorted(entry.name for entry in ours.iterdir()) == [".settled-2.1-a", ".settled-4.1-b", "5.1-a"]


CRASH = """
import os, signal, sys
from pathlib import Path
from ffrtmp_agent import staging
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.claims import Intent
from ffrtmp_agent.media.fingerprint import fingerprint
root, folder, when, overwrite = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "True"
place = staging.Place(root, "1.1", "out.mp4")
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
rename = staging.rename
if when == "before":
    staging.rename = die
elif when == "after":
    staging.rename = lambda *words: (rename(*words), die())
place.publish(AttemptDir(folder), Intent(5, fingerprint(place.staged), overwrite), until_s=1.0, clock=lambda: 0.0)
"""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_p1_an_agent_killed_around_the_rename_knows_afterwards_what_it_did(yard: Yard, when: str, overwrite: bool):
    output = Output(yard).stage()
    if overwrite:
        (yard.root / "out.mp4").write_bytes(b"old")
    words = [str(yard.root), str(output.directory.path), when, str(overwrite)]
    subprocess.run([sys.executable, "-c", CRASH, *words], check=False)
    found = output.place.recover(AttemptDir(output.directory.path))
    if when == "after":
        assert found is not None
        assert found.request == 5
        assert (yard.root / "out.mp4").read_bytes() == MEDIA
        assert not output.place.staging.exists()
    else:
        assert found is None
        assert output.directory.intent() is None
        assert output.place.staged.read_bytes() == MEDIA
        output.publish(overwrite=overwrite)
        assert (yard.root / "out.mp4").read_bytes() == MEDIA


def test_an_attempt_without_intent_has_published_nothing(yard: Yard):
    output = Output(yard).stage()
    assert output.place.recover(output.directory) is None
    assert output.place.staged.exists()


def test_p5_discarded_staging_is_gone_and_takes_nothing_with_it(yard: Yard):
    precious = yard.base / "precious"
    precious.mkdir()
    (precious / "file").write_text("here")
    output = Output(yard)
    (output.place.staging / "link").symlink_to(precious)
    output.place.discard_staging()
    output.place.discard_staging()
    assert not output.place.staging.exists()
    assert (precious / "file").exists()


def test_p12_a_staging_folder_that_is_a_link_is_not_entered(yard: Yard):
    outside = yard.base / "outside"
    outside.mkdir()
    (outside / "out.mp4").write_bytes(MEDIA)
    output = Output(yard)
    output.place.discard_staging()
    output.place.staging.symlink_to(outside)
    with pytest.raises((FarmError, OSError)):
        output.place.publish(output.directory, Intent(1, Fingerprint(1, "a")), until_s=1.0, clock=lambda: 0.0)
    assert (outside / "out.mp4").exists()
    assert not (yard.root / "out.mp4").exists()


def test_where_the_file_system_knows_no_flags_nothing_is_replaced_either(tmp_path: Path):
    (tmp_path / "new").write_bytes(MEDIA)
    (tmp_path / "taken").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            rename_without_flags(folder, "new", folder, "taken", NOREPLACE)
        with pytest.raises(FileExistsError):
            rename_without_flags(folder, "folder", folder, "taken", NOREPLACE)
        rename_without_flags(folder, "new", folder, "free", NOREPLACE)
        rename_without_flags(folder, "folder", folder, "moved", NOREPLACE)
        rename_without_flags(folder, "free", folder, "taken", EXCHANGE)
    finally:
        os.close(folder)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["moved", "taken"]
    assert (tmp_path / "taken").read_bytes() == MEDIA


# ---- roots ----

RACE = """
import sys, uuid
from pathlib import Path
from ffrtmp_agent.roots import root_identity
sys.stdin.read()
print(root_identity(Path(sys.argv[1]), uuid.uuid4()))
"""


def test_agents_that_race_agree_on_the_identity_of_a_root(tmp_path: Path):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.close()
    said = set()
    for racer in racers:
        assert racer.stdout
        said.add(racer.stdout.read().decode().strip())
        racer.stdout.close()
        assert racer.wait() == 0
    assert len(said) == 1
    assert root_identity(tmp_path, uuid4()) == UUID(said.pop())
    assert [one.name for one in (tmp_path / ".ffrtmp").iterdir()] == ["root-id"]


def test_a_root_identity_that_makes_no_sense_is_an_error_with_a_hint(tmp_path: Path):
    (tmp_path / ".ffrtmp").mkdir()
    (tmp_path / ".ffrtmp/root-id").write_text("rubbish")
    with pytest.raises(FarmError) as caught:
        root_identity(tmp_path, uuid4())
    assert "remove it" in caught.value.hint


FIND = """
import sys
from pathlib import Path
from uuid import uuid4
from ffrtmp.config_agent import MediaRoot
from ffrtmp.errors import FarmError
from ffrtmp_agent.about import find_roots
try:
    find_roots({"films": MediaRoot(Path(sys.argv[1]))}, uuid4())
except FarmError as error:
    print(error.what, error.hint, sep=chr(10))
"""


@pytest.mark.parametrize(
    ("fault", "words", "advice"),
    [
        ("ENOSPC", "No space left on device", "make room there"),
        ("EDQUOT", "Disk quota exceeded", "make room there"),
        ("EROFS", "Read-only file system", "mount it so that the agent can write there once"),
        ("EACCES", "Permission denied", "the agent's user needs to write there once"),
        ("EIO", "Input/output error", "the agent marks each root once"),
    ],
)
def test_a_root_that_cannot_be_marked_is_told_with_what_helps_and_no_draft_stays(
    tmp_path: Path, fault: str, words: str, advice: str
):
    root = tmp_path / "root"
    (root / ".ffrtmp").mkdir(parents=True)
    faulty = strace(tmp_path / "strace.log", f"fsync:error={fault}")
    done = subprocess.run(
        [*faulty, sys.executable, "-c", FIND, str(root)], capture_output=True, text=True, check=True, timeout=60
    )
    what, hint = done.stdout.splitlines()
    assert what == f"media root films: {root}/.ffrtmp cannot be written: {words}" and hint.startswith(advice)
    assert list((root / ".ffrtmp").iterdir()) == []


def test_p12_an_input_may_not_lead_out_of_its_root(tmp_path: Path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/in.mp4").write_bytes(MEDIA)
    (root / "inside").symlink_to(root / "sub")
    (root / "out").symlink_to("/etc")
    (root / ".ffrtmp").mkdir()
    (root / "ours").symlink_to(root / ".ffrtmp")
    assert input_inside(root, "inside/in.mp4") == root / "sub/in.mp4"
    assert input_inside(root, "not/there.mp4") == root / "not/there.mp4"
    for relative in ("out/passwd", "../x", "/etc/passwd", ".", "sub/../..", ".ffrtmp/42.1/x", "ours/42.1/x"):
        with pytest.raises(FarmError):
            input_inside(root, relative)
