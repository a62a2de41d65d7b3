"""What a submission becomes: the scenario, the paths, the bounds. No server: the resolution is pure."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffrtmp import scenario
from ffrtmp.api import Submission
from ffrtmp.farm.job import Priority, Queue
from ffrtmp.spec import Pattern
from ffrtmp.wire import RootFact
from ffrtmp_master import paths
from ffrtmp_master.refusal import Refusal
from ffrtmp_master.submit import Known, PreparedJob, again, complete, output_key, prepare

SRV = "11111111-1111-4111-8111-111111111111"
SHARED = "22222222-2222-4222-8222-222222222222"
LOCAL_B = "33333333-3333-4333-8333-333333333333"
RECIPES = scenario.load((scenario.PACKAGED,))
ONE_ROOT = {"a": (RootFact(name="srv", identity=SRV, path="/srv/ffrtmp"),)}
# Two nodes: one storage that both mount (at different places), and a name and folder that means another disk on each.
TWO_NODES = {
    "a": (
        RootFact(name="srv", identity=SRV, path="/srv/ffrtmp"),
        RootFact(name="nas", identity=SHARED, path="/mnt/nas"),
    ),
    "b": (
        RootFact(name="srv", identity=LOCAL_B, path="/srv/ffrtmp"),
        RootFact(name="nas", identity=SHARED, path="/media/nas", writable=False),
    ),
}


def known(roots: paths.Roots = ONE_ROOT) -> Known:
    return Known(recipes=RECIPES, roots=roots, fresh_uuid=lambda: "00000000-0000-4000-8000-000000000000")


def prepared(roots: paths.Roots = ONE_ROOT, **fields: object) -> PreparedJob:
    return prepare(Submission(**{"scenario": "720p-h264", **fields}), known(roots))  # type: ignore[arg-type]


def refused(roots: paths.Roots = ONE_ROOT, **fields: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        prepared(roots, **fields)
    return caught.value


# ---- scenarios and terms -------------------------------------------------------------------------------------------


def test_a_scenario_is_found_in_any_case_of_letters() -> None:
    assert prepared(scenario="1080P30-H264").spec.recipe.scenario == "1080p30-h264"


def test_a_mistyped_scenario_is_refused_with_the_nearest_name() -> None:
    refusal = refused(scenario="1080p30-h246")
    assert refusal.status == 422
    assert "1080p30-h264" in refusal.hint


def test_a_job_has_a_scenario_or_plain_arguments_and_not_both() -> None:
    assert refused(scenario="").status == 422
    assert refused(arguments=("-c:v", "libx264"), input="srv:a.mov", output="srv:b.mp4").status == 422


def test_cpu_and_memory_are_both_need_and_limit() -> None:
    job = prepared(cpu_milli=2500, memory_bytes=3 << 30, time_s=60.0, nice=5)
    recipe = job.spec.recipe
    assert (recipe.needs.cpu_milli, recipe.limits.cpu_milli) == (2500, 2500)
    assert (recipe.needs.memory_bytes, recipe.limits.memory_bytes) == (3 << 30, 3 << 30)
    assert (recipe.limits.time_s, recipe.limits.nice) == (60.0, 5)
    assert job.new.terms.requirements.cpu_milli == 2500


def test_what_is_left_out_gets_the_masters_defaults() -> None:
    terms = prepared().new.terms
    assert (terms.queue, terms.priority, terms.max_retries) == (Queue.DEFAULT, Priority.MEDIUM, 3)


def test_queue_priority_and_retries_are_taken_over() -> None:
    terms = prepared(queue="batch", priority="high", max_retries=0).new.terms
    assert (terms.queue, terms.priority, terms.max_retries) == (Queue.BATCH, Priority.HIGH, 0)


def test_a_job_needs_the_encoder_of_its_codec_and_the_labels_asked_for() -> None:
    requirements = prepared(scenario="720p30-vp9", labels=("ssd",)).new.terms.requirements
    assert "libvpx-vp9" in requirements.encoders
    assert requirements.labels == {"ssd"}


def test_an_engine_that_makes_no_files_is_refused_and_auto_is_ffmpeg() -> None:
    assert prepared(engine="auto").new.terms.requirements.engine == "ffmpeg"
    assert refused(engine="gstreamer").status == 422


@pytest.mark.parametrize(
    "fields",
    [
        {"cpu_milli": 0},
        {"memory_bytes": -1},
        {"time_s": float("nan")},
        {"time_s": float("inf")},
        {"nice": -5},
        {"io_weight": 10_001},
        {"max_retries": 101},
        {"labels": ("a b",)},
        {"labels": tuple(f"l{each}" for each in range(33))},
        {"note": "x" * 1001},
        {"traceparent": "not one"},
        {"generate": Pattern(width=0)},
        {"generate": Pattern(width=641)},
        {"generate": Pattern(duration_s=1e9)},
        {"generate": Pattern(), "input": "srv:a.mov"},
    ],
)
def test_p12_numbers_and_words_out_of_bounds_are_refused(fields: dict[str, object]) -> None:
    assert refused(**fields).status == 422


# ---- input -----------------------------------------------------------------------------------------------------------


def test_a_path_in_a_root_is_named_by_the_roots_identity() -> None:
    job = prepared(input="srv:in/a.mov", output="srv:out/a.mp4")
    assert job.spec.source.path is not None
    assert (job.spec.source.path.root_id, job.spec.source.path.relative) == (SRV, "in/a.mov")
    assert job.new.terms.requirements.roots == {f"{SRV}:r", f"{SRV}:w"}
    assert job.output_key == f"{SRV}:out/a.mp4" == job.new.output


def test_an_absolute_path_is_resolved_by_what_the_nodes_announce() -> None:
    path = paths.resolve("/srv/ffrtmp/./in//a.mov", ONE_ROOT, "input")
    assert (path.root, path.relative) == ("srv", "in/a.mov")


def test_an_absolute_path_belongs_to_the_root_that_reaches_deepest() -> None:
    nested = {"a": (*ONE_ROOT["a"], RootFact(name="in", identity=SHARED, path="/srv/ffrtmp/in/"))}
    path = paths.resolve("/srv/ffrtmp/in/a.mov", nested, "input")
    assert (path.root_id, path.relative) == (SHARED, "a.mov")


def test_a_folder_that_only_begins_alike_is_another_folder() -> None:
    with pytest.raises(Refusal):
        paths.resolve("/srv/ffrtmp2/a.mov", ONE_ROOT, "input")


@pytest.mark.parametrize("text", ["srv:a.mov", "/srv/ffrtmp/a.mov"])
def test_a_path_with_several_meanings_is_409_with_choices_that_have_one_each(text: str) -> None:
    refusal = refused(TWO_NODES, input=text)
    assert refusal.status == 409
    assert refusal.choices == ("srv@a:a.mov", "srv@b:a.mov")
    meanings = {paths.resolve(each, TWO_NODES, "input").root_id for each in refusal.choices}
    assert meanings == {SRV, LOCAL_B}


def test_storage_that_two_nodes_share_is_one_meaning_wherever_they_mount_it() -> None:
    by_name = paths.resolve("nas:a.mov", TWO_NODES, "input")
    assert by_name.root_id == SHARED
    assert paths.resolve("/mnt/nas/a.mov", TWO_NODES, "input") == by_name
    assert paths.resolve("/media/nas/a.mov", TWO_NODES, "input").relative == "a.mov"


def test_an_unknown_root_or_node_is_refused_with_the_known_ones() -> None:
    refusal = refused(input="serve:a.mov")
    assert (refusal.status, "srv (/srv/ffrtmp)" in refusal.hint) == (422, True)
    assert refused(input="srv@z:a.mov").status == 422
    assert refused(input="a.mov").status == 422


def test_without_any_media_root_a_submission_is_409_and_says_what_to_do() -> None:
    for fields in ({"input": "srv:a.mov"}, {"input": "/srv/a.mov"}, {}):
        refusal = refused({"a": ()}, **fields)
        assert (refusal.status, refusal.detail) == (409, "no node announces a media root")
        assert "media-root" in refusal.hint
        refusal = refused({}, **fields)  # the agents are starting, or there is none
        assert (refusal.status, "no node has been in contact yet" in refusal.detail) == (409, True)
        assert "ffrtmpctl nodes list --wait" in refusal.hint


@pytest.mark.parametrize(
    "path",
    [
        "srv:../a",
        "srv:a/../../b",
        "srv:.ffrtmp/1.1/x",
        "srv:a/.ffrtmp/x",
        "srv:",
        "srv:.",
        "/srv/ffrtmp",
        "/srv/ffrtmp/../x",
    ],
)
def test_p12_a_path_never_leaves_its_root_nor_enters_the_farms_own_folder(path: str) -> None:
    assert refused(input=path).status == 422
    assert refused(output=path).status == 422


@pytest.mark.parametrize(
    "path", ["srv:a\0b", "srv:a\nb", "srv:\x1b[2J", "srv:" + "x" * 256, "srv:" + "x/" * 2000, "srv:\ud800"]
)
def test_p12_a_path_with_bytes_that_no_file_should_have_is_refused(path: str) -> None:
    assert refused(input=path).status == 422


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["..", ".", "", ".ffrtmp", "a", "b c", "ü"]), max_size=8).map("/".join)
)
def test_p12_whatever_is_written_as_a_path_stays_inside_its_root_or_is_refused(text: str) -> None:
    for written in (text, "srv:" + text, "/srv/ffrtmp/" + text, "srv@a:" + text):
        try:
            path = paths.resolve(written, ONE_ROOT, "input")
        except Refusal as refusal:
            assert refusal.status in (409, 422)
            continue
        parts = path.relative.split("/")
        assert path.root_id == SRV
        assert all(part not in ("", ".", "..", ".ffrtmp") for part in parts)
        assert not re.search(r"[\x00-\x1f\x7f]", path.relative)
        assert len(path.relative.encode()) <= paths.RELATIVE_MAX_BYTES


def test_an_http_url_is_an_input_and_needs_a_node_that_speaks_the_protocol() -> None:
    job = prepared(input="HTTPS://user:geheim@example.org/a.mp4?x=1")
    assert job.spec.source.url == "HTTPS://user:geheim@example.org/a.mp4?x=1"
    assert job.new.terms.requirements.features == {"protocol:https"}


@pytest.mark.parametrize(
    "url",
    ["rtmp://h/live/k", "file:///etc/passwd", "ftp://h/x", "http://", "http://user@/x", "http://h/a b", "concat:a|b"],
)
def test_other_protocols_and_broken_urls_are_refused(url: str) -> None:
    assert refused(input=url).status == 422


def test_a_scenario_without_input_uses_a_pattern_of_its_size_a_minute_long() -> None:
    assert prepared(scenario="1080p60-h264").spec.source.pattern == Pattern(1920, 1080, 60.0, 60.0)
    assert prepared(scenario="audio").spec.source.pattern is not None


# ---- output ----------------------------------------------------------------------------------------------------------


def test_a_forgotten_input_replaces_no_film_by_a_test_pattern() -> None:
    for output in ("srv:film.mp4", ""):
        refusal = refused(output=output, overwrite=True)
        assert (refusal.status, refusal.detail[:12]) == (422, "which input?") and "--generate" in refusal.hint
    asked = prepared(output="srv:film.mp4", overwrite=True, generate=Pattern(640, 360, 25.0, 2.0))
    assert asked.spec.overwrite and again(asked.spec, asked.new.terms, 1, known().fresh_uuid).spec.overwrite
    assert prepared(output="srv:film.mp4").spec.source.pattern is not None


def test_a_job_without_output_writes_to_the_folder_jobs_under_its_number() -> None:
    job = prepared()
    assert (job.output_key, output_key(job.spec)) == ("", "")
    spec = complete(job.spec, 42)
    assert spec.output is not None
    assert (spec.output.root_id, spec.output.relative) == (SRV, "jobs/42.mp4")
    assert output_key(spec) == f"{SRV}:jobs/42.mp4"
    assert complete(spec, 43) == spec


@pytest.mark.parametrize(
    ("name", "expected"), [("probe", "jobs/7.json"), ("audio", "jobs/7.m4a"), ("thumbnails", "jobs/7")]
)
def test_the_default_output_is_named_as_the_scenario_makes_it(name: str, expected: str) -> None:
    output = complete(prepared(scenario=name).spec, 7).output
    assert output is not None
    assert output.relative == expected


def test_the_default_output_goes_to_the_root_of_the_input_or_the_choices_are_told() -> None:
    output = prepared(TWO_NODES, input="srv@b:a.mov").spec.output
    assert output is not None
    assert output.root_id == LOCAL_B
    refusal = refused(TWO_NODES)
    assert (refusal.status, len(refusal.choices)) == (409, 3)


def test_a_read_only_root_is_not_written_to_by_default() -> None:
    roots = {"b": (RootFact(name="nas", identity=SHARED, path="/nas", writable=False), *ONE_ROOT["a"])}
    output = prepared(roots, input="nas:a.mov").spec.output
    assert output is not None
    assert output.root_id == SRV
    assert refused({"b": roots["b"][:1]}, input="nas:a.mov").status == 409


def test_a_job_may_not_write_over_its_own_input() -> None:
    assert "same file" in refused(input="srv:a.mp4", output="/srv/ffrtmp//a.mp4", overwrite=True).detail


@pytest.mark.parametrize("name", ["jobs/7.mp4", "jobs/12/x.mp4", "jobs/7"])
def test_nobody_takes_a_name_that_the_farm_gives_by_number(name: str) -> None:
    assert refused(output=f"srv:{name}").status == 422


def test_the_name_of_the_output_fits_what_the_scenario_makes() -> None:
    assert refused(output="srv:a.webm").status == 422
    assert refused(output="srv:a").status == 422
    assert refused(output="srv:a.mp4/").status == 422
    assert prepared(output="srv:a.MP4").output_key == f"{SRV}:a.MP4"
    assert prepared(scenario="thumbnails", output="srv:pictures/").output_key == f"{SRV}:pictures"


# ---- plain arguments and retries ---------------------------------------------------------------------------------


def test_plain_arguments_need_a_node_that_allows_them_and_both_paths() -> None:
    arguments = ("-i", "{input}", "-c:v", "libx264", "{output}")
    fields = {"scenario": "", "arguments": arguments, "input": "srv:a.mov", "output": "srv:b.mkv"}
    job = prepared(**fields)
    assert job.spec.recipe.kind == "plain"
    assert job.new.terms.requirements.features == {"run"}
    assert refused(**{**fields, "output": ""}).status == 422
    assert refused(**{**fields, "input": ""}).status == 422


def test_p12_plain_arguments_that_name_another_file_are_refused() -> None:
    arguments = ("-i", "{input}", "-i", "/etc/passwd", "{output}")
    assert refused(scenario="", arguments=arguments, input="srv:a.mov", output="srv:b.mkv").status == 422


def test_a_retried_job_asks_for_the_same_and_says_of_which_it_is_the_retry() -> None:
    first = prepared(output="srv:a.mp4", queue="batch")
    second = again(first.spec, first.new.terms, 41, lambda: "fresh")
    assert (second.spec.retry_of, second.output_key, second.new.uuid) == (41, first.output_key, "fresh")
    assert second.new.terms == first.new.terms
