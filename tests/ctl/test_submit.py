"""Jobs go in as their submitter meant them, once, and a batch whole or not at all."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from ctl.conftest import Ctl, a_job
from ctl.peer import Peer, breaks_off, events, gives, hangs_up, problem

from ffrtmp.api import FailureView, Submission, Submitted, SubmittedJob
from ffrtmp.spec import Pattern, Results
from ffrtmpctl.batch import fill
from ffrtmpctl.main import main

ROUTE = "POST /v1/jobs"


def made(*numbers: int, state: str = "queued", reason: str = "") -> Submitted:
    return Submitted(
        items=tuple(
            SubmittedJob(job=number, uuid=f"u{number}", state=state, input="m:in", output="m:out", reason=reason)  # type: ignore[arg-type]
            for number in numbers
        )
    )


def sent(peer: Peer) -> Submission:
    """The one submission, as the server's own type reads it."""
    return msgspec.json.decode(peer.asked[-1].body, type=Submission)


def sent_batch(peer: Peer) -> list[Submission]:
    return msgspec.convert(peer.asked[-1].json["items"], list[Submission])


@pytest.fixture
def taking(peer: Peer) -> Peer:
    return peer.on(ROUTE, gives(made(1), 201))


def test_every_flag_of_submit_arrives_in_its_field(ctl: Ctl, taking: Peer):
    flags = """jobs submit --scenario 1080p-h264 --input media:in.mov --output media:out.mp4 --queue batch --priority high
      --engine ffmpeg --overwrite --strict --max-retries 5 --classification test --on-disconnect stop
      --quality psnr,ssim --cpu 1.5 --memory 2G --scratch 10GiB --file-size 500MB --time 1h30min --nice -5
      --io-weight 200 --label fast --label eu --note hello
      --traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"""
    run = ctl(*flags.split())
    assert (run.code, run.out, run.err) == (0, "job 1 queued  m:in -> m:out\n", "")
    assert sent(taking) == Submission(
        scenario="1080p-h264",
        input="media:in.mov",
        output="media:out.mp4",
        queue="batch",
        priority="high",
        engine="ffmpeg",
        overwrite=True,
        strict=True,
        max_retries=5,
        classification="test",
        on_disconnect="stop",
        quality=("psnr", "ssim"),
        cpu_milli=1500,
        memory_bytes=2 << 30,
        scratch_bytes=10 << 30,
        file_bytes=500_000_000,
        time_s=5400.0,
        nice=-5,
        io_weight=200,
        labels=("fast", "eu"),
        note="hello",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def test_what_is_not_said_is_left_to_the_master(ctl: Ctl, taking: Peer):
    ctl("submit", "--scenario", "probe")
    assert taking.asked[-1].json == {"scenario": "probe"}


def test_a_generated_pattern_has_size_rate_and_length(ctl: Ctl, taking: Peer):
    ctl("submit", "--scenario", "x", "--generate", "1280x720@29.97:1min")
    assert sent(taking).generate == Pattern(width=1280, height=720, fps=29.97, duration_s=60.0)


def test_a_path_of_this_folder_is_made_whole_because_the_master_stands_elsewhere(
    ctl: Ctl, taking: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    ctl("submit", "--scenario", "x", "--input", "in.mov", "--output", "./frames/")
    assert (sent(taking).input, sent(taking).output) == (f"{tmp_path}/in.mov", f"{tmp_path}/frames/")


def test_an_output_that_is_a_url_is_pushed_to(ctl: Ctl, taking: Peer):
    ctl("submit", "--scenario", "x", "--input", "a:b", "--output", "a:c", "--output", "http://host/d")
    assert (sent(taking).output, sent(taking).output_urls) == ("a:c", ("http://host/d",))


def test_plain_arguments_reach_the_master_as_they_were_written(ctl: Ctl, taking: Peer):
    plain = ["-i", "{input}", "-vf", "scale=640:-2", "--", "--output", "json", "run", "{output}"]
    assert ctl("jobs", "run", "--input", "a:b", "--output", "a:c", "--json", "--", *plain).code == 0
    assert list(sent(taking).arguments) == plain
    assert (sent(taking).scenario, sent(taking).output) == ("", "a:c")


def test_json_is_chosen_before_or_after_the_command(ctl: Ctl, taking: Peer):
    base = ("submit", "--scenario", "x", "--output", "a:b")
    for words in (("--format", "json", *base), (*base, "--json"), (*base, "--format", "json"), ("--json", *base)):
        assert json.loads(ctl(*words).out)["items"][0]["job"] == 1
        assert sent(taking).output == "a:b"


def test_a_submission_whose_answer_was_lost_is_repeated_under_the_same_key(ctl: Ctl, peer: Peer):
    peer.on(ROUTE, hangs_up, breaks_off, gives(made(9), 201))
    run = ctl("submit", "--scenario", "x")
    assert (run.code, run.out) == (0, "job 9 queued  m:in -> m:out\n")
    keys = [asked.headers["Idempotency-Key"] for asked in peer.asked]
    assert len(keys) == 3 and len(set(keys)) == 1
    assert len({asked.body for asked in peer.asked}) == 1


def test_each_submission_has_a_key_of_its_own_unless_it_is_given(ctl: Ctl, taking: Peer):
    for words in ((), (), ("--idempotency-key", "nightly-7")):
        ctl("submit", "--scenario", "x", *words)
    first, second, third = (asked.headers["Idempotency-Key"] for asked in taking.asked)
    assert first != second and third == "nightly-7"


def test_a_forgotten_input_replaces_no_film_and_is_wrong_usage(ctl: Ctl, taking: Peer, tmp_path: Path):
    run = ctl("submit", "--scenario", "x", "--output", "media:film.mp4", "--overwrite")
    assert run.code == 2 and "which input?" in run.err and "--generate" in run.err
    (tmp_path / "jobs").write_text('{"input": "media:a.mov"}\n{"scenario": "y"}\n')
    run = ctl("submit", "--scenario", "x", "--overwrite", "--from", tmp_path / "jobs")
    assert run.code == 2 and "job 2 of 2: which input?" in run.err and taking.asked == []
    words = ("submit", "--scenario", "x", "--output", "media:film.mp4", "--overwrite")
    for source in (("--generate", "64x64@25:1"), ("--input", "media:in.mov")):
        assert ctl(*words, *source).code == 0


def test_a_rejected_job_is_refused_with_the_reason(ctl: Ctl, peer: Peer):
    peer.on(ROUTE, gives(made(3, state="rejected", reason="no node has h264_nvenc"), 201))
    run = ctl("submit", "--scenario", "x", "--strict")
    assert run.code == 4 and "job 3 rejected: no node has h264_nvenc" in run.out


def test_jobs_that_no_known_node_could_run_are_warned_of_once_for_each_reason(ctl: Ctl, peer: Peer):
    waiting = [SubmittedJob(job=n, uuid=f"u{n}", state="queued", warning="a: it has no label x") for n in (3, 4, 5)]
    peer.on(ROUTE, gives(msgspec.structs.replace(made(2), items=(*made(2).items, *waiting)), 201))
    run = ctl("submit", "--scenario", "x")
    assert run.code == 0 and "job 3 queued" in run.out
    first, hint = run.err.splitlines()
    assert first == "warning: job 3 and 2 more wait: no known node could run it: a: it has no label x"
    assert hint.startswith("hint: --strict")


def test_who_submits_plain_arguments_that_no_node_takes_is_told_the_agents_setting(ctl: Ctl, peer: Peer):
    waits = SubmittedJob(job=3, uuid="u3", state="queued", warning="a: its agent's setting allow_run is off")
    peer.on(ROUTE, gives(Submitted(items=(waits,)), 201))
    _, hint = ctl("jobs", "run", "--input", "a:b", "--output", "a:c", "--", "{input}", "{output}").err.splitlines()
    assert "allow_run" in hint and "--allow-run" in hint and "--strict" in hint


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_a_list_of_inputs_becomes_one_batch_with_an_output_each(
    ctl: Ctl, taking: Peer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("media:a/one.mov\n\n  /srv/two.b.mov \nhttp://host/three.mkv?x=1\n"))
    ctl("submit", "--scenario", "batch", "--from", "-", "--output", "out:{index}-{stem}.mp4", "--queue", "batch")
    jobs = sent_batch(taking)
    assert [job.input for job in jobs] == ["media:a/one.mov", "/srv/two.b.mov", "http://host/three.mkv?x=1"]
    assert [job.output for job in jobs] == ["out:1-one.mp4", "out:2-two.b.mp4", "out:3-three.mp4"]
    assert {(job.scenario, job.queue) for job in jobs} == {("batch", "batch")}
    assert len(taking.asked) == 1


def test_empty_lines_and_lines_that_begin_with_a_hash_are_passed_over(ctl: Ctl, taking: Peer, tmp_path: Path):
    file = tmp_path / "list"
    file.write_text("# tonight\n\nmedia:#1.mov\n   # not this one\nmedia:b.mov\n")
    ctl("submit", "--scenario", "x", "--from", file, "--output", "out:{index}-{stem}.mp4")
    assert [job.output for job in sent_batch(taking)] == ["out:1-#1.mp4", "out:2-b.mp4"]
    file.write_text('# tonight\n{"scenario": "y", "input": "a:1.mov"}\n#{"scenario": "z"}\n')
    ctl("submit", "--from", file)
    assert [job.scenario for job in sent_batch(taking)] == ["y"]
    file.write_text("# nothing\n")
    assert "is empty" in ctl("submit", "--scenario", "x", "--from", file, "--output", "o:{stem}").err


def test_what_can_be_no_path_is_for_the_master_to_refuse(ctl: Ctl, taking: Peer, tmp_path: Path):
    file = tmp_path / "jobs.jsonl"
    rows = [{"input": "/a\0b.mov"}, {"input": "/" + "x" * 5000}, {"input": "/\U0001f3ac\n"}]
    file.write_text(
        "".join(json.dumps({"scenario": "x", "output": f"m:{n}", **row}) + "\n" for n, row in enumerate(rows))
    )
    assert ctl("submit", "--from", file).code == 0
    assert [job.input for job in sent_batch(taking)] == [row["input"] for row in rows]


def test_a_file_of_submissions_says_what_the_flags_do_not(ctl: Ctl, taking: Peer, tmp_path: Path):
    rows = [
        {"input": "a:1.mov", "priority": "low"},
        {"scenario": "probe", "input": "a:2.mov", "output": "a:2.json"},
        {"generate": {"width": 64, "height": 64}},
    ]
    file = tmp_path / "jobs.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    ctl("submit", "--from", file, "--scenario", "720p-h264", "--priority", "high", "--output", "b:{index}.mp4")
    jobs = sent_batch(taking)
    assert [job.scenario for job in jobs] == ["720p-h264", "probe", "720p-h264"]
    assert [job.priority for job in jobs] == ["low", "high", "high"]
    assert [job.output for job in jobs] == ["b:1.mp4", "a:2.json", "b:3.mp4"]


@pytest.mark.parametrize(
    ("text", "words", "telling"),
    [
        ("", ("--output", "a:{stem}"), "is empty"),
        ("a:1.mov\n", (), "needs --output"),
        ("a:1.mov\na:1.mov\n", ("--output", "a:{stem}.mp4"), "lines 1 and 2 would both write a:1.mp4"),
        ("a:1.mov\n\na:2.mov\n", ("--output", "a:all.mp4"), "lines 1 and 3 would both write"),
        ("a:1.mov\n", ("--output", "a:{year}.mp4"), "line 1: {year} is no placeholder"),
        ('{"scenario": "x"}\nnot json\n', (), "line 2: "),
        ('{"scenario": "x", "colour": "red"}\n', (), "line 1: Object contains unknown field `colour`"),
        ('{"scenario": "x"}\n{"queue": "fast"}\n', (), "line 2: Invalid enum value 'fast'"),
        ('{"scenario": "x"}\n', ("--output", "a:{stem}.mp4"), "line 1: {stem} needs an input"),
        ("/srv/a.mov\n", ("--output", "a:{dir}/{stem}.mp4"), "line 1: "),
    ],
)
def test_a_batch_with_one_wrong_line_is_not_submitted_and_the_line_is_named(
    ctl: Ctl, taking: Peer, tmp_path: Path, text: str, words: tuple[str, ...], telling: str
):
    file = tmp_path / "list"
    file.write_text(text)
    run = ctl("submit", "--scenario", "s", "--from", file, *words)
    assert run.code == 2 and telling in run.err and "Traceback" not in run.err
    assert taking.asked == []


def test_a_list_that_is_no_text_or_is_not_there_is_told(ctl: Ctl, taking: Peer, tmp_path: Path):
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\x00")
    for name, telling in (("picture", "not a text"), ("missing", "No such file"), (".", "Is a directory")):
        run = ctl("submit", "--scenario", "s", "--from", tmp_path / name, "--output", "a:{stem}")
        assert run.code == 2 and telling in run.err
    assert taking.asked == []


@pytest.mark.parametrize(
    ("template", "source", "filled"),
    [
        ("out:{stem}.mp4", "in:a/b/c.mov", "out:c.mp4"),
        ("out:{dir}/{stem}.mp4", "in:a/b/c.mov", "out:a/b/c.mp4"),
        ("out:{dir}/{stem}.mp4", "in:c.mov", "out:c.mp4"),
        ("{dir}/{stem}-small.mp4", "in:a/c.mov", "in:a/c-small.mp4"),
        ("{dir}/{stem}-small.mp4", "/srv/x/c.mov", "/srv/x/c-small.mp4"),
        ("out:{name}/", "in:a/c.mov", "out:c.mov/"),
        ("out:{stem}{stem}.mp4", "http://h/%20a.b.mov", "out: a.b a.b.mp4"),
        ("/srv/out/{index}.mp4", "in:{stem}.mov", "/srv/out/7.mp4"),
    ],
)
def test_a_template_is_filled_from_the_line(template: str, source: str, filled: str):
    assert fill(template, source, 7) == filled


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_wait_ends_well_when_the_job_completed(ctl: Ctl, peer: Peer):
    peer.on(ROUTE, gives(made(42), 201))
    done = a_job(state="completed", ended="2026-01-31T12:01:00.000Z", results=Results(output_bytes=3 << 20))
    peer.on("GET /v1/jobs/42/events", events(a_job(state="queued"), a_job(node="a", percent=10.0), done))
    run = ctl("submit", "--scenario", "x", "--wait")
    assert (run.code, run.err) == (0, "")
    assert run.out.splitlines() == [
        "job 42 queued  m:in -> m:out",
        "job 42 is queued (default, medium)",
        "job 42 is running on a, 10 %",
        "job 42 completed: media:out.mp4 (3.0 MiB)",
    ]


@pytest.mark.parametrize(
    ("state", "words"),
    [("failed", "job 42 failed"), ("timed_out", "job 42 timed out"), ("canceled", "job 42 was canceled")],
)
def test_wait_tells_reason_line_and_hint_of_a_job_that_did_not_complete(ctl: Ctl, peer: Peer, state: str, words: str):
    failure = FailureView(reason="input_error", line="in.mov: Invalid data found", hint="is it a video?")
    peer.on(ROUTE, gives(made(42), 201))
    peer.on("GET /v1/jobs/42/events", events(a_job(state=state, failure=failure)))
    run = ctl("submit", "--scenario", "x", "--follow")
    assert run.code == 1
    assert run.err == f"ffrtmpctl: {words}: input_error: in.mov: Invalid data found\nhint: is it a video?\n"


def test_waiting_for_a_batch_fails_when_one_of_it_did(ctl: Ctl, peer: Peer, tmp_path: Path):
    (tmp_path / "list").write_text("a:1\na:2\n")
    peer.on(ROUTE, gives(made(1, 2), 201))
    peer.on("GET /v1/jobs/1/events", events(a_job(job=1, state="failed", failure=FailureView(reason="timeout"))))
    peer.on("GET /v1/jobs/2/events", events(a_job(job=2, state="completed")))
    run = ctl("submit", "--scenario", "x", "--from", tmp_path / "list", "--output", "b:{name}", "--wait")
    assert run.code == 1 and "job 1 failed: timeout" in run.err and "job 2 completed" in run.out


def test_a_refused_submission_is_not_waited_for(ctl: Ctl, peer: Peer):
    peer.on(ROUTE, problem(409, "job 3 writes media:out.mp4 already", "choose another name, or cancel job 3"))
    run = ctl("submit", "--scenario", "x", "--wait")
    assert run.code == 4 and run.err.startswith("ffrtmpctl: job 3 writes media:out.mp4 already\nhint: ")


@pytest.mark.parametrize(
    ("words", "times"), [(("jobs", "submit"), 2), (("jobs", "run"), 1), (("jobs", "stop"), 1), (("jobs", "status"), 0)]
)
def test_help_says_what_comes_only_with_live_scenarios_and_how_to_wait_no_longer_than_an_hour(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], times: int
):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    text = " ".join(capfd.readouterr().out.split())
    assert text.count("live scenarios, not in this version") == times
    assert ("timeout 1h ffrtmpctl" in text) == (words[1] != "stop")
