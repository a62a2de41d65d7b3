"""What a media root is called: as its submitter called it, as long as that means the same storage."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from api.desk import CAPACITY, Desktop, served

from ffrtmp import wire
from ffrtmp.spec import JobSpec, MediaPath, Recipe, Source
from ffrtmp_master.root_names import RootNames

SHARED = wire.RootFact(name="media", identity="22222222-2222-4222-8222-222222222222", path="/mnt/films")
OTHER = wire.RootFact(name="media", identity="33333333-3333-4333-8333-333333333333", path="/mnt/other")
RENAMED = msgspec.structs.replace(SHARED, name="films")


@pytest.fixture
def master() -> Iterator[Desktop]:
    """One storage on `aa` and `vm`, another of the same name on `x`; `a` has neither."""
    with served() as master:
        for number, (node, root) in enumerate((("aa", SHARED), ("vm", SHARED), ("x", OTHER))):
            announces(master, node, root, number)
        yield master


def announces(master: Desktop, node: str, root: wire.RootFact, number: int) -> None:
    capacity = msgspec.structs.replace(CAPACITY, roots=(root,))
    master.do(lambda: master.desk.node(node, capacity, f"127.0.1.{number}"))


def shown(master: Desktop, job: int) -> tuple[str, str]:
    view = master.get(f"/v1/jobs/{job}").json
    return view["input"], view["output"]


def test_a_shared_storage_is_called_by_the_node_that_its_submitter_named(master: Desktop) -> None:
    told = master.submit(input="media@vm:in.mov", output="media@aa:out.mp4")
    assert (told["input"], told["output"]) == ("media@vm:in.mov", "media@aa:out.mp4")
    assert shown(master, told["job"]) == ("media@vm:in.mov", "media@aa:out.mp4")
    beside = master.submit(input="media@vm:in.mov")
    assert beside["output"].startswith("media@vm:jobs/"), "the default output is called as the input is"
    absolute = master.submit(input="/mnt/films/in.mov", output="/mnt/films/b.mp4")
    ran = master.get(f"/v1/jobs/{absolute['job']}").json["node"]
    assert ran in ("aa", "vm") and shown(master, absolute["job"]) == (f"media@{ran}:in.mov", f"media@{ran}:b.mp4")


def test_a_storage_that_its_node_calls_otherwise_by_now_is_called_so_and_never_by_a_name_of_another(
    master: Desktop,
) -> None:
    job = master.submit(input="media@vm:in.mov", output="media@vm:out.mp4")["job"]
    master.desk.live.told["vm"] = msgspec.structs.replace(
        master.desk.live.told["vm"], capacity=msgspec.structs.replace(CAPACITY, roots=(RENAMED,))
    )
    assert shown(master, job) == ("media@aa:in.mov", "media@aa:out.mp4"), "aa calls it media still"
    del master.desk.live.told["aa"]
    assert shown(master, job) == ("films:in.mov", "films:out.mp4"), "media is the storage of x now"
    del master.desk.live.told["vm"]
    assert shown(master, job) == ("media:in.mov", "media:out.mp4"), "nobody has it any more"


def test_a_reason_names_the_right_node_where_one_path_begins_as_the_other() -> None:
    names = RootNames.of({"aa": (SHARED,), "x": (OTHER,)})
    source = Source(path=MediaPath("media", OTHER.identity, "film", "x"))
    spec = JobSpec(Recipe("test"), source, output=MediaPath("media", SHARED.identity, "film.mp4", "aa"))
    assert names.named("media:film.mp4 already exists", spec) == "media@aa:film.mp4 already exists"
    assert names.named("media:film does not exist", spec) == "media@x:film does not exist"
    lacks = f"it has no media root {OTHER.identity}:r, {SHARED.identity}:w"
    assert names.named(lacks, spec) == "it has no media root media@x (to read), media@aa (to write)"
