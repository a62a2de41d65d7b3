"""What lies on a node's disks: other farms' work, what jobs claim, logs that are gone, descriptors that run out."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from runner.yard import LONG_ENCODE, Yard, marked, until

from ffrtmp import wire
from ffrtmp.config_agent import AgentConfig, MediaRoot
from ffrtmp.errors import Exit, FarmError
from ffrtmp.host.disk import DiskGuard
from ffrtmp.spec import JobSpec, MediaPath, Pattern, Recipe, Source, Video
from ffrtmp_agent.main import runner_of
from ffrtmp_agent.media.progress import parse
from ffrtmp_agent.shipping import Shipping
from ffrtmp_agent.staging import farm_of
from ffrtmp_agent.watching import duration_s
from ffrtmp_agent.workshop import Refusal, Workshop, clock_s, first_lease_s

KEY = ("u", 1)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "root" / ".ffrtmp").mkdir(parents=True)
    roots = {"id": MediaRoot(tmp_path / "root")}
    return Workshop(
        tmp_path / "attempts", roots, DiskGuard(0, 0), frozenset(), allow_run=False, confined=True, farm="f"
    )


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with Yard(tmp_path) as made:
        yield made


def assign(output: str = "out.mp4", *, kind: str = "file", on_disconnect: str = "keep") -> wire.Assign:
    recipe = Recipe("test", kind, video=Video())  # type: ignore[arg-type]
    output_path = MediaPath("media", "id", output)
    spec = JobSpec(recipe, Source(pattern=Pattern()), output=output_path, on_disconnect=on_disconnect)  # type: ignore[arg-type]
    return wire.Assign(1, "lineage", 1, str(uuid4()), 42, 1, "default", "medium", spec)


def test_an_input_is_absent_for_good_only_where_its_storage_is_there(workshop: Workshop) -> None:
    spec = msgspec.structs.replace(assign().spec, source=Source(path=MediaPath("media", "id", "in.mov")))
    wanted = msgspec.structs.replace(assign(), spec=spec)
    with pytest.raises(Refusal) as gone:
        workshop.make(wanted, wire.Timing())
    assert gone.value.failure is None, "a mount that is missing is no fault of the job's"
    (workshop.roots["id"].path / ".ffrtmp" / "root-id").write_text(str(uuid4()))
    with pytest.raises(Refusal) as absent:
        workshop.make(wanted, wire.Timing())
    failure = absent.value.failure
    assert failure is not None and not failure.transient
    assert (failure.reason, failure.line) == ("input_error", "media:in.mov does not exist")
    assert list(workshop.folder.iterdir()) == []


# ---- staging ---------------------------------------------------------------------------------------------------------


def test_p3_two_farms_that_share_a_storage_keep_their_equal_numbers_apart(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "attempts of the other").mkdir()
    other = replace(workshop, farm="g", folder=tmp_path / "attempts of the other")
    ours, theirs = workshop.make(assign("a.mp4"), wire.Timing()), other.make(assign("b.mp4"), wire.Timing())
    mine, its = (Path(each.job_file().paths.staged) for each in (ours, theirs))  # type: ignore[union-attr]
    mine.write_text("mine")
    its.write_text("its")
    workshop.clean(ours)
    assert not mine.parent.exists()
    assert its.read_text() == "its"
    assert workshop.look(wire.Settle(1, "u", 42, 1, assign("b.mp4").spec)) is None
    assert its.read_text() == "its"


def test_p3_a_staging_folder_that_is_there_is_never_taken_for_a_new_attempt(workshop: Workshop) -> None:
    there = workshop.roots["id"].path / ".ffrtmp" / "42.1-f"
    there.mkdir()
    (there / "out.mp4").write_text("of another life of this farm")
    with pytest.raises(Refusal) as refused:
        workshop.make(assign(), wire.Timing())
    assert refused.value.failure is None  # another number will do
    assert (there / "out.mp4").read_text() == "of another life of this farm"
    assert list(workshop.folder.iterdir()) == []


def test_an_attempt_keeps_its_staging_folder_when_its_node_joins_another_farm(workshop: Workshop) -> None:
    made = workshop.make(assign(), wire.Timing())
    replace(workshop, farm="g").clean(made)
    assert list((workshop.roots["id"].path / ".ffrtmp").iterdir()) == []


def test_farms_are_told_apart_by_their_masters_keys() -> None:
    assert farm_of("a" * 40) == farm_of("a" * 40) != farm_of("b" * 40)


# ---- leases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "lease_s"), [("file", 15.0), ("live", 3.0)])
def test_the_first_lease_counts_from_the_last_answered_message(kind: str, lease_s: float) -> None:
    timing = wire.Timing(lost_after_s=15.0, lost_after_live_s=3.0)
    assert first_lease_s(assign(kind=kind, on_disconnect="stop").spec, timing, 100.0) == 100.0 + lease_s
    assert first_lease_s(assign(kind=kind).spec, timing, 100.0) is None


def test_an_attempt_that_needs_a_lease_has_one_from_the_start(workshop: Workshop) -> None:
    answered_s = clock_s()
    made = workshop.make(assign(on_disconnect="stop"), wire.Timing(lost_after_s=60.0), answered_s)
    assert float((made.path / "lease").read_text()) == pytest.approx(answered_s + 60.0, abs=1e-3)


def test_no_attempt_is_begun_whose_lease_is_over_already(workshop: Workshop) -> None:
    with pytest.raises(Refusal, match="its lease is over"):
        workshop.make(assign(on_disconnect="stop"), wire.Timing(lost_after_s=15.0), clock_s() - 15.0)
    assert list(workshop.folder.iterdir()) == []


# ---- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_p12_a_progress_file_full_of_nines_can_be_told_to_the_master(digits: int) -> None:
    nines = "9" * digits
    text = f"frame={nines}\nfps={nines}\nbitrate={nines}kbits/s\nout_time={nines}:00:00.0\ndup_frames={nines}\n"
    found = parse(text + "progress=continue\n", 0.0)
    assert found is not None
    report = wire.AttemptReport("u", 1, 1, "running", "encoding", found)
    assert wire.decode_from_agent(wire.encode(wire.Heartbeat(1, 1, attempts=(report,))))
    assert duration_s(f"  Duration: {nines}:00:00.00, start".encode()) <= 1e9


def test_p12_a_claim_that_no_message_can_hold_is_none(yard: Yard) -> None:
    attempt = yard.attempt("exit 0")
    for name, claim in (
        ("state", {"restarts": 10**30}),
        ("outcome", {"boot_id": "b", "how": "failed", "restarts": 10**30}),
        ("verified", {"ok": True, "fingerprint": {"size_bytes": 10**30, "digest": "d"}}),
    ):
        (attempt.path / name).write_text(json.dumps(claim))
    assert attempt.state().restarts == 0
    assert attempt.outcome() is None
    assert attempt.verdict() is None


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_a_log_that_cannot_be_read_any_more_is_given_up_and_not_waited_for() -> None:
    shipping = Shipping()
    shipping.add(KEY)
    assert shipping.chunk(KEY, 1, [(0, b"line\n")], 0.0) is not None
    shipping.ended(KEY, 100)
    assert list(shipping.wanted(0.1)) == [(KEY, 5)]
    last = shipping.chunk(KEY, 1, [], 0.1)
    assert last == wire.LogChunk(1, "u", 1, 100, b"", last=True, after=5)
    assert shipping.acked(KEY, 5, 0.2) is False
    assert shipping.acked(KEY, 100, 0.2) is True


def test_what_was_cut_out_of_a_log_is_passed_over_and_the_rest_arrives() -> None:
    shipping = Shipping()
    shipping.ended(KEY, 30)
    first = shipping.chunk(KEY, 1, [(0, b"x" * 10), (20, b"y" * 10)], 0.0)
    second = shipping.chunk(KEY, 1, [(20, b"y" * 10)], 0.1)
    assert [(m.offset, m.last) for m in (first, second) if m] == [(0, False), (20, True)]


# ---- descriptors, settings -------------------------------------------------------------------------------------------


def test_p5_a_guard_that_cannot_be_held_is_ended_and_not_forgotten(yard: Yard) -> None:
    attempt = yard.attempt(LONG_ENCODE)
    mark = f"{yard.uuid(attempt.job)}.1"
    started: list[int] = []
    spawn = yard.runner._spawn

    def spawned(*given: object) -> int:
        started.append(spawn(*given))  # type: ignore[arg-type]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        restore.append(limits)
        return started[0]

    restore: list[tuple[int, int]] = []
    yard.runner._spawn = spawned  # type: ignore[method-assign]
    try:
        with pytest.raises(FarmError):
            yard.runner.start(attempt, msgspec.structs.replace(attempt.job_file().spec.recipe.limits))  # type: ignore[union-attr]
    finally:
        for limits in restore:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert started
    until(lambda: not marked([mark]), "no process of it to be left")


def test_a_runner_that_this_version_has_not_is_refused_and_not_replaced() -> None:
    with pytest.raises(FarmError) as refused:
        runner_of(AgentConfig(runner="systemd"))
    assert refused.value.code == Exit.CONFIG
    assert "plain" in refused.value.hint
