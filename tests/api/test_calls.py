"""The API over a real Unix socket: jobs, queues, nodes, scenarios, and what is said when something is refused."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from api.desk import CAPACITY, ROOT, Desktop, served

from ffrtmp import wire
from ffrtmp.farm.job import Failure, Reason
from ffrtmp.spec import Progress
from ffrtmp_master.api.call import Bounds
from ffrtmp_master.rows import StoreRefused


@pytest.fixture
def master() -> Iterator[Desktop]:
    with served() as desktop:
        yield desktop


def kept_audit(master: Desktop) -> list[tuple[str, str, str]]:
    """Who did what, after a turn that stores it."""

    def read() -> Any:
        master.desk.turn()
        return master.desk.reader.audit()

    return [(row.who.split(" ")[0], row.action, row.outcome) for row in master.do(read)]


# ---- submission ------------------------------------------------------------------------------------------------------


def test_p1_a_job_that_was_answered_is_in_the_store(master: Desktop) -> None:
    told = master.submit(output="srv:out/a.mp4", input="/srv/ffrtmp/in.mov")
    assert (told["job"], told["state"]) == (1, "queued")
    assert (told["input"], told["output"]) == ("srv:in.mov", "srv:out/a.mp4")
    row = master.do(lambda: master.desk.store.reader().job(told["uuid"]))
    assert row.number == 1


def test_a_job_without_output_is_told_the_name_that_it_gets(master: Desktop) -> None:
    assert [master.submit()["output"] for _ in range(2)] == ["srv:jobs/1.mp4", "srv:jobs/2.mp4"]
    assert master.get("/v1/jobs/2").json["spec"]["output"]["relative"] == "jobs/2.mp4"


def test_a_batch_is_accepted_whole_or_not_at_all(master: Desktop) -> None:
    good, bad = {"scenario": "probe", "input": "srv:a.mov"}, {"scenario": "probe", "input": "srv:../a"}
    refused = master.call("POST", "/v1/jobs", {"items": [good, good, bad]})
    assert (refused.status, refused.json["detail"].split(":")[0]) == (422, "job 3 of 3")
    assert master.get("/v1/jobs").json["items"] == []
    accepted = master.call("POST", "/v1/jobs", {"items": [good] * 250})
    assert [each["job"] for each in accepted.json["items"]] == list(range(1, 251))


def test_two_open_jobs_may_not_name_one_output(master: Desktop) -> None:
    master.submit(output="srv:a.mp4")
    refused = master.call("POST", "/v1/jobs", {"scenario": "720p-h264", "output": "srv:a.mp4"})
    assert (refused.status, "job 1" in refused.json["detail"]) == (409, True)
    both = {"scenario": "720p-h264", "output": "srv:b.mp4"}
    assert master.call("POST", "/v1/jobs", {"items": [both, both]}).status == 409


def test_a_strict_job_that_nobody_can_run_is_rejected_with_the_reason(master: Desktop) -> None:
    told = master.submit(strict=True, labels=["moon"])
    assert told["state"] == "rejected"
    assert "moon" in told["reason"]
    assert master.get("/v1/jobs/1/why").json["sentence"].startswith("it was rejected")


def test_a_job_that_nobody_can_run_is_taken_with_a_warning_that_says_why(master: Desktop) -> None:
    told = master.submit(labels=["moon"])
    assert told["state"] == "queued"
    assert told["warning"] == "a: it has no label moon"
    assert "warning" not in master.submit()


def test_a_job_between_two_media_roots_that_no_one_node_has_is_warned_of(master: Desktop) -> None:
    nas = wire.RootFact(name="nas", identity="22222222-2222-4222-8222-222222222222", path="/nas")
    elsewhere = msgspec.structs.replace(CAPACITY, roots=(nas,))
    master.do(lambda: master.desk.node("b", elsewhere, "127.0.0.2"))
    between = {"input": "nas:in.mov", "output": "srv:out.mp4"}
    told = master.submit(**between)["warning"]
    assert told == "a: it has no media root nas (to read); b: it has no media root srv (to write)"
    assert master.submit(input="nas:in.mov", output="srv:other.mp4", strict=True)["state"] == "rejected"
    assert "warning" not in master.submit(input="nas:in.mov", output="nas:out.mp4")


def test_a_field_that_does_not_exist_is_an_error_and_no_wish(master: Desktop) -> None:
    refused = master.call("POST", "/v1/jobs", {"scenario": "probe", "prioritty": "high"})
    assert (refused.status, "prioritty" in refused.json["detail"]) == (422, True)


def test_a_store_that_refuses_is_503_with_the_reason_and_nothing_is_accepted(master: Desktop) -> None:
    async def full() -> None:
        raise StoreRefused("the disk is full")

    master.desk.before_submit = full
    refused = master.call("POST", "/v1/jobs", {"scenario": "probe"}, {"Idempotency-Key": "k"})
    assert (refused.status, "the disk is full" in refused.json["detail"]) == (503, True)
    master.desk.before_submit = lambda: None
    accepted = master.call("POST", "/v1/jobs", {"scenario": "probe"}, {"Idempotency-Key": "k"})
    assert (accepted.status, accepted.json["items"][0]["job"]) == (201, 1)


def test_a_store_that_cannot_be_read_is_503_and_is_put_to_the_proof_by_a_write(master: Desktop) -> None:
    place = master.desk.store.path
    for path in (place, place.with_name(place.name + "-wal")):
        path.write_bytes(os.urandom(path.stat().st_size))
    refused = master.get("/v1/jobs?limit=7")
    assert (refused.status, refused.json["detail"]) == (503, "the store cannot be read")
    assert refused.json["hint"]
    asked = master.do(lambda: [(row.action, row.outcome) for row in master.desk._audit])
    assert asked == [("GET /v1/jobs", "503")], "this row is what the next turn must be able to write"


# ---- idempotency -----------------------------------------------------------------------------------------------------


def test_p1_a_submission_that_is_repeated_with_its_key_gets_the_same_answer_and_one_job(master: Desktop) -> None:
    first, again = (master.call("POST", "/v1/jobs", {"scenario": "probe"}, {"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status, first.body) == (again.status, again.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(master.get("/v1/jobs").json["items"]) == 1


def test_a_key_that_was_used_for_another_submission_is_422(master: Desktop) -> None:
    master.call("POST", "/v1/jobs", {"scenario": "probe"}, {"Idempotency-Key": "k"})
    assert master.call("POST", "/v1/jobs", {"scenario": "audio"}, {"Idempotency-Key": "k"}).status == 422
    assert master.call("POST", "/v1/jobs", {"scenario": "audio"}, {"Idempotency-Key": "a b"}).status == 400


def test_a_key_that_is_used_twice_at_once_makes_one_job(master: Desktop) -> None:
    entered, go_on = threading.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await go_on.wait()

    master.desk.before_submit = wait

    def post(scenario: str) -> Any:
        return master.call("POST", "/v1/jobs", {"scenario": scenario}, {"Idempotency-Key": "k"})

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(post, "probe")
        assert entered.wait(10)
        second = pool.submit(post, "probe")
        assert pool.submit(post, "audio").result().status == 422
        master.do(go_on.set)
        assert first.result().body == second.result().body
    assert len(master.get("/v1/jobs").json["items"]) == 1


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_a_job_is_found_by_number_and_by_uuid_and_by_nothing_else(master: Desktop) -> None:
    uuids = [master.submit()["uuid"] for _ in range(12)]
    uuid = uuids[0]
    assert master.get("/v1/jobs/1").json["uuid"] == uuid
    assert master.get(f"/v1/jobs/{uuid}").json["job"] == 1
    assert master.get(f"/v1/jobs/{uuid.upper()}").json["job"] == 1
    for name in ("0", "01", "13", "1.0", "-1", "1 ", uuid[:8], uuid[:-1], "9" * 30, "%2e%2e", "1%00"):
        assert master.get(f"/v1/jobs/{name.replace(' ', '%20')}").status == 404, name


def test_a_list_is_paged_by_key_and_new_jobs_shift_nothing(master: Desktop) -> None:
    for _ in range(5):
        master.submit()
    first = master.get("/v1/jobs?limit=2").json
    master.submit()
    second = master.get(f"/v1/jobs?limit=2&after={first['next']}").json
    third = master.get(f"/v1/jobs?limit=2&after={second['next']}").json
    assert [each["job"] for page in (first, second, third) for each in page["items"]] == [5, 4, 3, 2, 1]
    assert "next" not in third
    assert [each["job"] for each in master.get("/v1/jobs?order=oldest&limit=2").json["items"]] == [1, 2]


def test_a_list_is_filtered_by_state_aliases_queue_and_more(master: Desktop) -> None:
    master.submit(queue="live")
    master.submit(priority="low", labels=["nowhere"])
    master.submit(classification="test", labels=["nowhere"])

    def jobs(query: str) -> list[int]:
        return [each["job"] for each in master.get(f"/v1/jobs?{query}").json["items"]]

    assert jobs("state=pending") == [3, 2]
    assert jobs("state=processing") == [1]
    assert jobs("state=assigned,queued") == [3, 2, 1]
    assert jobs("queue=live") == [1]
    assert jobs("priority=low") == [2]
    assert jobs("classification=test&state=open") == [3]
    assert jobs("node=a") == [1]


def test_a_query_that_makes_no_sense_is_400_and_never_ignored(master: Desktop) -> None:
    senseless = (
        "state=gone",
        "queue=fast",
        "limit=0",
        "limit=100000",
        "limit=x",
        "after=-1",
        "order=up",
        "stat=queued",
    )
    for query in (*senseless, "limit=1&limit=2"):
        refused = master.get(f"/v1/jobs?{query}")
        assert (refused.status, refused.headers["Content-Type"]) == (400, "application/problem+json"), query


def test_progress_percent_and_eta_are_seen_while_a_job_runs(master: Desktop) -> None:
    master.submit()
    master.do(lambda: master.desk.accepted(1))
    master.do(lambda: master.desk.progress(1, Progress(out_time_s=15, total_s=60, frames=450, fps=90, speed=3)))
    view = master.get("/v1/jobs/1").json
    assert (view["state"], view["phase"], view["percent"], view["eta_s"]) == ("running", "encoding", 25.0, 15.0)
    assert view["progress"]["fps"] == 90
    assert view["attempts"][0]["state"] == "running"


def test_history_and_why_tell_a_failure_with_its_line_and_hint(master: Desktop) -> None:
    master.submit(input="https://anna:geheim@example.org/a.mp4", output="srv:o.mp4")
    master.do(lambda: master.desk.accepted(1))
    line = "https://anna:geheim@example.org/a.mp4: Invalid data found"
    failure = Failure(Reason.INPUT_ERROR, False, line, "look at the file")
    master.do(lambda: master.desk.ended(1, failure=failure))
    view = master.get("/v1/jobs/1").json
    assert (view["state"], view["failure"]["reason"]) == ("failed", "input_error")
    why = master.get("/v1/jobs/1/why").json
    assert "Invalid data found" in why["sentence"]
    assert why["hint"] == "look at the file"
    rows = master.get("/v1/jobs/1/history").json["items"]
    assert [row["after"] for row in rows if row.get("before") != row["after"]][-1] == "failed"
    page = master.get("/v1/jobs/1/history?limit=1").json
    assert master.get(f"/v1/jobs/1/history?limit=100&after={page['next']}").json["items"] == rows[1:]


def test_no_secret_of_a_url_is_in_any_answer(master: Desktop) -> None:
    told = master.submit(
        input="https://anna:geheim@example.org/a.mp4?sig=geheim", output="srv:o.mp4", note="see rtmp://h/live/geheim"
    )
    assert told["input"] == "https://***@example.org/a.mp4?sig=***"
    for target in ("/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/history", "/v1/jobs/1/why"):
        assert b"geheim" not in master.get(target).body, target
    with master.stream("/v1/jobs/1/events") as stream:
        assert b"geheim" not in stream.readline()
    spec = master.do(lambda: master.desk.reader.spec(1))
    assert "geheim" in spec.source.url, "the agent needs it"


# ---- requests --------------------------------------------------------------------------------------------------------


def test_cancel_tells_the_state_and_the_node_that_still_holds_the_job(master: Desktop) -> None:
    master.submit(labels=["nowhere"])
    done = master.call("POST", "/v1/jobs/1/cancel")
    assert (done.status, done.json["state"]) == (200, "canceled")
    master.submit()
    master.do(lambda: master.desk.accepted(2))
    done = master.call("POST", "/v1/jobs/2/cancel")
    assert (done.status, done.json["state"], done.json["nodes"]) == (202, "canceling", ["a"])
    master.do(lambda: master.desk.ended(2))
    again = master.call("POST", "/v1/jobs/2/cancel")
    assert (again.status, "canceled" in again.json["detail"]) == (409, True)


def test_pause_resume_and_update_reach_the_farm(master: Desktop) -> None:
    master.submit(labels=["nowhere"])
    assert master.call("POST", "/v1/jobs/1/pause").json["state"] == "paused"
    assert master.call("POST", "/v1/jobs/1/resume").json["state"] == "queued"
    assert master.call("PATCH", "/v1/jobs/1", {"queue": "batch", "priority": "high"}).status == 200
    view = master.get("/v1/jobs/1").json
    assert (view["queue"], view["priority"]) == ("batch", "high")
    assert master.call("PATCH", "/v1/jobs/1", {}).status == 422
    assert master.call("POST", "/v1/jobs/1/stop").status == 409


def test_retry_makes_a_new_job_of_one_that_failed_and_of_no_other(master: Desktop) -> None:
    master.submit(output="srv:a.mp4", priority="high", labels=["nowhere"])
    assert master.call("POST", "/v1/jobs/1/retry").status == 409
    master.call("POST", "/v1/jobs/1/cancel")
    retried = master.call("POST", "/v1/jobs/1/retry")
    assert (retried.status, retried.json["items"][0]["job"]) == (201, 2)
    view = master.get("/v1/jobs/2").json
    assert (view["retry_of"], view["output"], view["priority"]) == (1, "srv:a.mp4", "high")
    assert master.call("POST", "/v1/jobs/1/retry").status == 409, "its output is taken by job 2"


def test_many_jobs_are_canceled_and_retried_by_a_filter(master: Desktop) -> None:
    for number in range(6):
        master.submit(queue="batch" if number % 2 else "default", labels=["nowhere"])
    many = master.call("POST", "/v1/jobs/cancel", {"queue": "batch"})
    assert (many.status, many.json["done"]) == (202, [2, 4, 6])
    retried = master.call("POST", "/v1/jobs/retry", {"state": "canceled"})
    assert retried.json["done"] == [2, 4, 6]
    assert master.call("POST", "/v1/jobs/cancel", {}).status == 422
    assert master.call("POST", "/v1/jobs/cancel", {"state": "completed"}).status == 422
    rest = master.call("POST", "/v1/jobs/cancel", {"state": "open"})
    assert rest.json["done"] == [1, 3, 5, 7, 8, 9]


# ---- queues, nodes, scenarios ----------------------------------------------------------------------------------------


def test_a_paused_queue_starts_nothing_and_why_says_so(master: Desktop) -> None:
    assert master.call("POST", "/v1/queues/batch/pause").status == 200
    master.submit(queue="batch")
    queue = master.get("/v1/queues").json["items"][2]
    assert (queue["queue"], queue["paused"], queue["waiting"]) == ("batch", True, 1)
    assert "queue batch is paused" in master.get("/v1/jobs/1/why").json["sentence"]
    master.call("POST", "/v1/queues/batch/resume")
    assert master.get("/v1/jobs/1").json["state"] == "assigned"
    assert master.call("POST", "/v1/queues/fast/pause").status == 404


def test_nodes_are_listed_labelled_drained_and_removed(master: Desktop) -> None:
    master.do(lambda: master.desk.node("b", CAPACITY, "127.0.0.2"))
    page = master.get("/v1/nodes?limit=1").json
    assert (page["items"][0]["node"], page["next"]) == ("a", "a")
    assert master.get("/v1/nodes?after=a").json["items"][0]["node"] == "b"
    assert master.call("PUT", "/v1/nodes/b/labels", {"labels": ["ssd"]}).status == 200
    assert master.call("PUT", "/v1/nodes/b/labels", {"labels": ["s s d"]}).status == 422
    assert master.call("POST", "/v1/nodes/b/drain").status == 200
    node = master.get("/v1/nodes/b").json
    assert (node["state"], node["labels"], node["facts"]["hostname"]) == ("drained", ["ssd"], "b")
    assert master.call("DELETE", "/v1/nodes/b").status == 409
    assert master.call("DELETE", "/v1/nodes/b?force=1").status == 200
    assert master.get("/v1/nodes/b").status == 404


def test_invite_and_enroll_answer_with_what_a_node_needs(master: Desktop) -> None:
    assert master.call("POST", "/v1/nodes/invite", {"expires_s": 60}).json["ticket"] == "a ticket"
    assert master.call("POST", "/v1/nodes/invite", {"expires_s": -1}).status == 422
    assert master.call("POST", "/v1/nodes/enroll", {"public_key": "k", "name": "c"}).status == 201
    refused = master.call("POST", "/v1/nodes/enroll", {"public_key": "k", "name": "taken"})
    assert (refused.status, refused.json["hint"]) == (409, "choose another --name")


def test_scenarios_are_listed_and_shown_in_any_case_of_letters(master: Desktop) -> None:
    names = [each["scenario"] for each in master.get("/v1/scenarios").json["items"]]
    assert "1080p30-h264" in names
    assert master.get("/v1/scenarios/1080P30-H264").json["scenario"] == "1080p30-h264"
    missing = master.get("/v1/scenarios/1080p30-h246")
    assert (missing.status, "1080p30-h264" in missing.json["hint"]) == (404, True)


def test_the_sla_counts_jobs_that_ended_since_a_time(master: Desktop) -> None:
    assert "percent" not in master.get("/v1/sla").json
    assert master.get("/v1/sla?since=1970-01-01T00:00:00Z").json["jobs"] == 0
    assert master.get("/v1/sla?since=yesterday").status == 400


# ---- the master ------------------------------------------------------------------------------------------------------


def test_readiness_says_why_not_and_liveness_stays(master: Desktop) -> None:
    assert master.get("/v1/ready").json == {"ready": True}
    master.desk.reason = "the database is being checked"
    refused = master.get("/v1/ready")
    assert (refused.status, refused.json["detail"]) == (503, "the database is being checked")
    assert master.get("/v1/live").status == 200


def test_a_backup_is_written_where_it_may_be_and_overwrites_nothing(master: Desktop) -> None:
    master.submit()
    folder = master.desk.backup_folders[0]
    made = master.call("POST", "/v1/db/backup", {"path": f"{folder}/one.db"})
    assert (made.status, made.json["size_bytes"] > 0) == (201, True)
    assert master.call("POST", "/v1/db/backup", {"path": f"{folder}/one.db"}).status == 409
    (folder / "away").symlink_to("/tmp")
    for path, status in (
        ("one.db", 422),
        ("/etc/x.db", 403),
        (f"{folder}/away/x.db", 403),
        (f"{folder}/../x.db", 403),
        (f"{folder}/one.db-journal", 422),
    ):
        assert master.call("POST", "/v1/db/backup", {"path": path}).status == status, path


def test_every_call_that_changes_something_is_audited_with_its_outcome(master: Desktop) -> None:
    master.submit(labels=["nowhere"])
    master.call("POST", "/v1/jobs/1/cancel")
    master.call("POST", "/v1/jobs/1/cancel")
    assert kept_audit(master)[-3:] == [
        ("uid", "POST /v1/jobs", "201"),
        ("uid", "POST /v1/jobs/{job}/cancel", "200"),
        ("uid", "POST /v1/jobs/{job}/cancel", "409"),
    ]


def test_p12_a_batch_beyond_its_bound_is_refused() -> None:
    with served(bounds=Bounds(batch=3, body_bytes=2000)) as master:
        job = {"scenario": "probe"}
        assert master.call("POST", "/v1/jobs", {"items": [job] * 4}).status == 422
        assert master.call("POST", "/v1/jobs", {"items": []}).status == 422
        large = master.call("POST", "/v1/jobs", {"items": [{**job, "note": "x" * 900}] * 3})
        assert (large.status, "2000 bytes" in large.json["detail"]) == (413, True)


# ---- media roots that share a name -----------------------------------------------------------------------------------


def test_a_path_is_shown_with_its_node_while_the_name_alone_has_several_meanings(master: Desktop) -> None:
    first = master.submit(input="srv:in.mov", output="srv:out.mp4")
    assert (first["input"], first["output"]) == ("srv:in.mov", "srv:out.mp4")
    other = wire.RootFact(name="srv", identity="33333333-3333-4333-8333-333333333333", path="/mnt/other")
    master.do(lambda: master.desk.node("b", msgspec.structs.replace(CAPACITY, roots=(other,)), "127.0.0.2"))
    told = master.submit(input="srv@b:in.mov", output="srv@b:out.mp4")
    assert (told["input"], told["output"]) == ("srv@b:in.mov", "srv@b:out.mp4")
    listed = master.get("/v1/jobs").json["items"]
    assert [job["output"] for job in listed] == ["srv@b:out.mp4", "srv@a:out.mp4"]
    for job, node in ((1, "a"), (2, "b")):
        view = master.get(f"/v1/jobs/{job}").json
        assert (view["input"], view["output"]) == (f"srv@{node}:in.mov", f"srv@{node}:out.mp4")
    pasted = master.submit(input=view["output"], output="srv@b:again.mp4")
    assert master.get(f"/v1/jobs/{pasted['job']}").json["spec"]["source"]["path"]["root_id"] == other.identity
    unknown = master.call("POST", "/v1/jobs", {"scenario": "probe", "input": "elsewhere:x.mov"}).json
    assert "srv@a (/srv/ffrtmp), srv@b (/mnt/other)" in unknown["hint"] and "ROOT@NODE:path" in unknown["hint"]


def test_reasons_and_history_name_media_roots_and_no_identities(master: Desktop) -> None:
    nas = wire.RootFact(name="nas", identity="22222222-2222-4222-8222-222222222222", path="/nas")
    master.do(lambda: master.desk.node("b", msgspec.structs.replace(CAPACITY, roots=(nas,)), "127.0.0.2"))
    job = master.submit(input="nas:in.mov", output="srv:out.mp4", strict=True)
    assert job["state"] == "rejected"
    for view in ("", "/history", "/why"):
        shown = master.get(f"/v1/jobs/{job['job']}{view}").json
        shown.pop("spec", None)  # the specification is what the node gets, identities and all
        assert "nas (to read)" in str(shown) or not view, shown
        assert nas.identity not in str(shown) and ROOT.identity not in str(shown)
    waits = master.submit(input="nas:in.mov", output="srv:other.mp4")["job"]
    why = master.get(f"/v1/jobs/{waits}/why").json
    assert why["nodes"] == {"a": "it has no media root nas (to read)", "b": "it has no media root srv (to write)"}
    assert why["sentence"] == "it waits because no known node could run it"


def test_an_end_has_its_time_beside_the_sentence(master: Desktop) -> None:
    master.submit(output="srv:a.mp4", labels=["nobody"])
    master.call("POST", "/v1/jobs/1/cancel")
    why = master.get("/v1/jobs/1/why").json
    assert why["sentence"] == "it was canceled" and why["ended"] == master.get("/v1/jobs/1").json["ended"]


@pytest.mark.parametrize(
    ("query", "meant"), [("state=runing", "running"), ("queue=defualt", "default"), ("stat=open", "state")]
)
def test_a_word_that_is_nearly_right_is_answered_with_the_right_one(master: Desktop, query: str, meant: str) -> None:
    refused = master.get(f"/v1/jobs?{query}")
    assert (refused.status, f"did you mean {meant}?" in refused.json["hint"]) == (400, True)
