"""Each command asks what it should and shows what it got."""

from __future__ import annotations

import io
import json
import subprocess
import time
import tomllib
from pathlib import Path

import msgspec
import pytest
from ctl.conftest import PROGRAM, Ctl, a_job
from ctl.peer import Peer, gives, problem

from ffrtmp import __version__, api, spec
from ffrtmpctl.parser import build_parser
from ffrtmpctl.values import duration_s, since


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_jobs_list_is_a_table_with_a_line_for_each_job(ctl: Ctl, peer: Peer):
    jobs = (a_job(job=7, node="a", percent=41.6), a_job(job=6, state="queued", scenario="", output=""))
    peer.on("GET /v1/jobs", gives(api.Page(items=jobs, next="6")))
    run = ctl("jobs", "list", "--state", "open", "--queue", "batch", "--node", "a", "--limit", 2, "--after", 9)
    table = rows(run.out)
    assert table[0][:7] == ["JOB", "STATE", "QUEUE", "PRIORITY", "SCENARIO", "NODE", "DONE"]
    assert table[1][:8] == ["7", "running", "default", "medium", "720p-h264", "a", "42", "%"]
    assert table[2][:6] == ["6", "queued", "default", "medium", "-", "-"]
    assert run.err == "there are more: --after 6, or --all\n"
    assert peer.asked[-1].query == {"state": "open", "queue": "batch", "node": "a", "limit": "2", "after": "9"}


def test_all_pages_are_one_list(ctl: Ctl, peer: Peer):
    pages = [gives(api.Page(items=(a_job(job=n),), next=str(n) if n > 1 else "")) for n in (3, 2, 1)]
    peer.on("GET /v1/jobs", *pages)
    listed = json.loads(ctl("list", "--all", "--output", "json").out)
    assert [job["job"] for job in listed["items"]] == [3, 2, 1] and not listed.get("next")
    assert [asked.query.get("after") for asked in peer.asked] == [None, "3", "2"]


def test_status_tells_all_of_a_job(ctl: Ctl, peer: Peer):
    failure = api.FailureView(reason="network_error", line="Connection refused", hint="is the host up?")
    attempts = (api.AttemptView(attempt=1, node="b", state="ended", how="failed", failure=failure),)
    results = spec.Results(frames=300, fps=71.0, encode_s=4.2, output_bytes=1 << 20, output_bps=1_500_000, psnr_db=41.0)
    job = a_job(state="retrying", failure=failure, attempts=attempts, failures=1, max_retries=3, results=results)
    peer.on("GET /v1/jobs/42", gives(job))
    out = ctl("status", 42).out
    for telling in (
        "job 42 is retrying after network_error\n  network_error: Connection refused\n  hint: is the host up?\n",
        "failures   1 of at most 4",
        "1 on b: failed, network_error: Connection refused",
        "output      1.0 MiB, 1.5 Mbit/s",
        "300 (71.0 fps)",
        "41.00 dB",
    ):
        assert telling in out


def test_why_and_history_and_sla_are_told_in_sentences(ctl: Ctl, peer: Peer):
    why = api.Why(job=42, state="queued", sentence="it waits for a GPU", hint="add one", nodes={"a": "has no GPU"})
    row = api.HistoryRow(
        seq=1,
        at="2026-01-31T12:00:00Z",
        job=42,
        attempt=1,
        before="queued",
        after="assigned",
        kind="handed",
        text="to a",
    )
    peer.on("GET /v1/jobs/42/why", gives(why)).on("GET /v1/jobs/42/history", gives(api.Page(items=(row,))))
    peer.on("GET /v1/sla", gives(api.Sla(10, 9, 1, 0, 0, 90.0)), gives(api.Sla(0, 0, 0, 0, 0)))
    assert ctl("jobs", "why", 42).out == "it waits for a GPU\n  a: has no GPU\nhint: add one\n"
    assert "queued -> assigned" in ctl("jobs", "history", 42).out
    assert ctl("jobs", "sla", "--since", "24h").out.startswith("90.0 % met their times: 9 of 10")
    assert peer.asked[-1].query["since"].endswith("Z")
    assert ctl("jobs", "sla").out == "no production job has ended\n"


def test_an_end_is_told_in_local_time_and_in_utc_to_programs(ctl: Ctl, peer: Peer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        peer.on(
            "GET /v1/jobs/42/why", gives(api.Why(42, "completed", "it completed", ended="2026-01-31T12:00:00.000Z"))
        )
        assert ctl("jobs", "why", 42).out == "it completed (2026-01-31 21:00:00)\n"
        assert json.loads(ctl("jobs", "why", 42, "--json").out)["ended"] == "2026-01-31T12:00:00.000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_reason_stands_once_in_a_line_of_history(ctl: Ctl, peer: Peer):
    failure = api.FailureView(reason="capability_mismatch", line="a: it has no label x")
    text = "no known node could run it: a: it has no label x"
    row = api.HistoryRow(1, "2026-01-31T12:00:00Z", 42, 0, "rejected", "rejected", text, failure=failure)
    peer.on("GET /v1/jobs/42/history", gives(api.Page(items=(row,))))
    out = ctl("jobs", "history", 42).out
    assert out.count("it has no label x") == 1 and out.endswith("(capability_mismatch)\n")


def test_a_job_that_the_answer_names_is_named_once(ctl: Ctl, peer: Peer):
    peer.on("POST /v1/jobs/14/pause", gives(api.Done(detail="job 14 is paused", job=14)))
    assert ctl("jobs", "pause", 14).out == "job 14 is paused\n"
    peer.on("POST /v1/jobs/cancel", gives(api.Many(done=(), refused={"3": "job 3 is publishing its output"}), 202))
    assert ctl("jobs", "cancel", "--queue", "batch", "--yes").err == "job 3 is publishing its output\n"


@pytest.mark.parametrize("verb", ["stop", "pause", "resume", "cancel"])
def test_an_order_goes_to_each_job_that_is_named(ctl: Ctl, peer: Peer, verb: str):
    for job in (1, 2):
        peer.on(f"POST /v1/jobs/{job}/{verb}", gives(api.Done(detail="on its way", job=job, hint="soon"), 202))
    assert ctl("jobs", verb, 1, 2).out == "job 1: on its way\n  soon\njob 2: on its way\n  soon\n"


def test_an_update_changes_what_is_named_only(ctl: Ctl, peer: Peer):
    peer.on("PATCH /v1/jobs/1", gives(api.Done(job=1)))
    assert ctl("jobs", "update", 1, "--priority", "low").out == "job 1: updated\n"
    assert peer.asked[-1].json == {"priority": "low"}


def test_a_retried_job_is_a_new_one(ctl: Ctl, peer: Peer):
    made = api.Submitted(items=(api.SubmittedJob(job=9, uuid="u", state="queued"),))
    peer.on("POST /v1/jobs/4/retry", gives(made, 201))
    assert ctl("jobs", "retry", 4).out == "job 9 is job 4 again, queued\n"


def test_many_jobs_are_canceled_by_filter_only_after_a_yes(ctl: Ctl, peer: Peer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # no terminal: nobody who could have been asked
    peer.on("POST /v1/jobs/cancel", gives(api.Many(done=(1, 2), refused={"3": "it is publishing"}), 202))
    refused = ctl("jobs", "cancel", "--queue", "batch")
    assert refused.code == 2 and "--yes" in refused.err and peer.asked == []
    run = ctl("jobs", "cancel", "--queue", "batch", "--state", "queued", "--limit", 100, "--yes")
    assert (run.code, run.out, run.err) == (4, "2 jobs canceled\n", "job 3: it is publishing\n")
    assert msgspec.json.decode(peer.asked[-1].body, type=api.Selection) == api.Selection(
        state="queued", queue="batch", limit=100
    )


def test_queues_are_listed_and_paused(ctl: Ctl, peer: Peer):
    views = (api.QueueView("live", False, 0, 1), api.QueueView("batch", True, 3, 0, oldest_s=75.0))
    peer.on("GET /v1/queues", gives(api.Page(items=views)))
    peer.on("POST /v1/queues/batch/pause", gives(api.Done(detail="paused")))
    table = rows(ctl("queues", "list").out)
    assert table[1] == ["live", "open", "0", "1", "-"] and table[2][:4] == ["batch", "paused", "3", "0"]
    assert table[2][4:] == ["1", "min", "15", "s"]
    assert ctl("queues", "pause", "batch").out == "queue batch: paused\n"


A_NODE = api.NodeView(
    node="enc/1",
    state="ready",
    address="10.0.0.7",
    key="k" * 40,
    labels=("fast",),
    jobs=("42.1",),
    cpu_milli=8000,
    cpu_used_milli=2500,
    slots=8,
    slots_used=1,
    heard_s=0.4,
    encoders=("libx264",),
    roots=(api.RootView("media", "id", "/srv/media", True, False, 5 << 30),),
    facts={"cpu_model": "Fast 9000", "gpus": ["one", "two"]},
)


def test_nodes_are_waited_for_until_as_many_are_ready_as_were_asked_for(ctl: Ctl, peer: Peer):
    starting = msgspec.structs.replace(A_NODE, node="b", state="unheard")
    states = [(), (starting,), (A_NODE, starting), (A_NODE, msgspec.structs.replace(starting, state="ready"))]
    peer.on("GET /v1/nodes", problem(503, "starting"), *(gives(api.Page(items=items)) for items in states))
    assert [row[1] for row in rows(ctl("nodes", "list", "--wait").out)[1:]] == ["ready", "ready"]
    assert len(peer.asked) == 5, "four looks, and the list"
    peer.asked.clear()
    assert ctl("nodes", "list", "--wait", 2).code == 0 and len(peer.asked) == 2
    assert (
        "3 should be ready, and after 0.3 s 2 of the 2 nodes are"
        in ctl("nodes", "list", "--wait", 3, "--timeout", "0.3s").err
    )
    assert ctl("nodes", "list", "--wait", 0).code == 2


def test_nodes_are_listed_described_and_ordered_by_their_quoted_name(ctl: Ctl, peer: Peer):
    peer.on("GET /v1/nodes", gives(api.Page(items=(A_NODE,)))).on("GET /v1/nodes/enc%2F1", gives(A_NODE))
    for verb in ("accept", "drain", "resume"):
        peer.on(f"POST /v1/nodes/enc%2F1/{verb}", gives(api.Done()))
        assert ctl("nodes", verb, "enc/1").out == f"node enc/1: {verb}\n"
    assert "enc/1  ready  10.0.0.7  1/8   2.5/8" in ctl("nodes", "list").out
    out = ctl("nodes", "describe", "enc/1").out
    for telling in (
        "node enc/1 is ready, heard 0.4 s ago",
        "2.5 of 8",
        "media: /srv/media, read, 5.0 GiB free",
        "one two",
    ):
        assert telling in out


def test_a_node_is_labelled_invited_and_removed(ctl: Ctl, peer: Peer):
    peer.on("PUT /v1/nodes/a/labels", gives(api.Done())).on("DELETE /v1/nodes/a", gives(api.Done(detail="gone")))
    ticket = api.Invitation(ticket="FFRTMP1-xyz", expires="2026-01-31T13:00:00Z", hub="tcp://h:8081", opened=True)
    peer.on("POST /v1/nodes/invite", gives(ticket, 201))
    ctl("nodes", "label", "a", "fast", "eu")
    assert peer.asked[-1].json == {"labels": ["fast", "eu"]}
    ctl("nodes", "label", "a", "--clear")
    assert peer.asked[-1].json == {"labels": []}
    run = ctl("nodes", "invite", "--name", "b", "--expires", "10min")
    assert run.out == "ffrtmp-agent join FFRTMP1-xyz\n" and "tcp://h:8081" in run.err
    assert msgspec.json.decode(peer.asked[-1].body, type=api.InviteRequest) == api.InviteRequest(
        name="b", expires_s=600
    )
    ctl("nodes", "remove", "a", "--force", "--yes")
    assert peer.asked[-1].query == {"force": "1"}


def test_scenarios_are_listed_and_shown(ctl: Ctl, peer: Peer):
    video = spec.Video(width=1280, height=720, fps=30, bitrate_bps=3_000_000, preset="medium")
    recipe = spec.Recipe(scenario="720p-h264", description="for the web", video=video, audio=spec.Audio())
    peer.on("GET /v1/scenarios", gives(api.Page(items=(recipe,)))).on("GET /v1/scenarios/720p-h264", gives(recipe))
    assert rows(ctl("scenarios", "list").out)[1][:4] == ["720p-h264", "file", "h264", "1280x720@30"]
    out = ctl("scenarios", "show", "720p-h264").out
    assert "h264, 1280x720@30, 3 Mbit/s, medium" in out and "aac, 128 kbit/s" in out


def test_version_tells_both_and_needs_no_master(ctl: Ctl, peer: Peer):
    assert "master unknown" in ctl("version", "--master", "/nowhere").out
    assert json.loads(ctl("version", "--json", "--master", "/nowhere").out)["master"] is None
    peer.on("GET /v1/version", gives(api.Version(version="0.9", protocol=1)))
    assert "master 0.9, protocol 1" in ctl("version").out
    assert json.loads(ctl("version", "--json").out)["master"]["version"] == "0.9"


@pytest.mark.parametrize("program", ["ffrtmpctl", "ffrtmp-master", "ffrtmp-agent"])
def test_every_program_tells_its_version(program: str):
    command = [PROGRAM.with_name(program), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert (done.stdout, done.stderr) == (f"{program} {__version__}\n", "")


def test_recommended_settings_need_no_master_and_can_be_used_as_they_are(ctl: Ctl):
    settings = tomllib.loads(ctl("config", "recommend", "--format", "toml").out)
    assert {"cpu", "memory", "max_concurrent_jobs"} <= set(settings)
    assert json.loads(ctl("config", "recommend", "--format", "json").out)["settings"]
    assert "FFRTMP_AGENT_CPU=" in ctl("config", "recommend", "--format", "env").out
    assert "max_concurrent_jobs = " in ctl("config", "recommend").out


def test_a_backup_is_written_by_the_master_at_a_whole_path(
    ctl: Ctl, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    peer.on("POST /v1/db/backup", gives(api.Backup("/x/b.db", "/x/b.db.logs", size_bytes=2048, turn=7), 201))
    assert ctl("db", "backup", "b.db").out == "backed up to /x/b.db and /x/b.db.logs (2.0 KiB, turn 7)\n"
    assert peer.asked[-1].json == {"path": f"{tmp_path}/b.db"}


def test_a_restore_is_refused_while_any_master_answers(ctl: Ctl, peer: Peer, tmp_path: Path):
    (tmp_path / "b.db").write_bytes(b"x")
    peer.on("GET /v1/live", gives(api.Ready(ready=True)), problem(503, "it starts"))
    for _ in range(2):
        run = ctl("db", "restore", tmp_path / "b.db")
        assert run.code == 4 and "is restored while it is stopped" in run.err and "systemctl stop" in run.err


def test_a_restore_hands_over_to_the_masters_program_and_hands_on_its_exit_code(
    socket: Path, tmp_path: Path, environment: dict[str, str]
):
    program = tmp_path / "ffrtmp-master"
    program.write_text('#!/bin/sh\necho "$@"\nexit 4\n')
    program.chmod(0o755)
    (tmp_path / "b.db").write_bytes(b"x")
    code = f"import sys; sys.argv[0] = '{tmp_path}/ffrtmpctl'; from ffrtmpctl.main import main; sys.exit(main())"
    words = ["db", "restore", str(tmp_path / "b.db"), "--state-dir", "/var/f", "--db", "/var/x.db"]
    done = subprocess.run(
        [PROGRAM.with_name("python"), "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, f"--restore {tmp_path}/b.db --state-dir /var/f --db /var/x.db\n")


def test_every_command_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str]):
    commands = list(_commands(build_parser()))
    assert len(commands) == 35
    for parser in commands:
        text = parser.format_help()
        assert (
            f"  {parser.prog}" in text.partition("example")[2] or parser.prog.split()[1] in text.partition("example")[2]
        )
        assert "--master" in text and "--debug" in text and "--json" in text


def _commands(parser):  # type: ignore[no-untyped-def]
    below = [action for action in parser._actions if hasattr(action, "_name_parser_map")]
    if not below:
        yield parser
    for action in below:
        for each in action.choices.values():
            yield from _commands(each)


def test_a_day_ago_is_a_moment_and_so_is_a_date():
    assert since("2026-01-31T12:00:00+02:00") == "2026-01-31T10:00:00.000Z"
    assert since("24h") < since("1h") and duration_s("90") == 90.0
