"""The simulator itself: its worlds hold, repeat to the byte, and break where a promise is broken. See docs/simulation.md."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from simulation import disk as disks
from simulation import many
from simulation.clock import Time
from simulation.network import Network, Weather

from ffrtmp import wire
from ffrtmp.farm import publish
from ffrtmp_master.store import logs, turns

HERE = Path(__file__).resolve().parents[2]
WORLDS = 25


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Path, Path]]:
    with many.a_place() as place:
        yield place


def test_p1_to_p11_hold_in_worlds_where_everything_goes_wrong(place: tuple[Path, Path]) -> None:
    broken = {seed: world.broken for seed in range(WORLDS) if (world := many.one(seed, *place)).broken}
    assert broken == {}


def test_a_node_is_done_with_the_log_of_a_job_that_was_retired(place: tuple[Path, Path]) -> None:
    assert many.one(30259, *place).broken == ""


def test_a_seed_tells_the_same_story_to_the_byte_whatever_hashes_are() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "8"]
    stories = [
        subprocess.run(
            command, cwd=HERE, env={**os.environ, "PYTHONHASHSEED": number}, capture_output=True, check=True, timeout=60
        ).stdout
        for number in ("1", "2")
    ]
    assert len(stories[0].splitlines()) > 20
    assert stories[0] == stories[1]


def _until_broken(place: tuple[Path, Path]) -> str:
    return next((world.broken for seed in range(200) if (world := many.one(seed, *place)).broken), "")


def test_a_master_that_grants_to_everybody_is_found_out(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_refusal", lambda _world, attempt: None if attempt is not None else "none")
    assert _until_broken(place)


def test_a_store_that_forgets_grants_is_found_out(place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_write_grants", lambda _connection, _turn: None)
    found = _until_broken(place)
    assert "P2" in found or "counts on a doubted attempt" in found, found


def test_a_store_that_takes_log_chunks_whose_forerunner_was_lost_is_found_out(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = logs._append
    monkeypatch.setattr(logs, "_append", lambda at, chunk, most: whole(at, replace(chunk, after=0), most))
    assert "the log of" in _until_broken(place)


def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    with disks.simulated(tmp_path):
        disk = disks.mount(tmp_path)
        connection = apsw.Connection(str(tmp_path / "a.db"))
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x)").fetchall()
        connection.execute("INSERT INTO t VALUES ('kept')")
        disk.dies_after = 1  # in the middle of the next commit
        with pytest.raises(apsw.IOError):
            connection.execute("INSERT INTO t VALUES ('lost')")
        with pytest.raises(apsw.IOError):
            connection.close()
        disk.cut(random.Random(1))
        disks.mount(tmp_path)
        connection = apsw.Connection(str(tmp_path / "a.db"))
        assert connection.execute("SELECT x FROM t").fetchall() == [("kept",)]
        connection.close()


def test_frames_of_one_connection_arrive_in_order_and_none_after_it_broke() -> None:
    time, heard = Time("x"), list[int]()
    network = Network(time, random.Random(1), Weather(delay_s=1.0), lambda _what: None)

    def take(_connection: bytes, _key: str, message: wire.FromAgent) -> None:
        assert isinstance(message, wire.Goodbye)
        heard.append(message.session)

    network.listen(take)
    link = network.link("k", lambda _message: None)
    for number in range(20):
        network.say(link, wire.Goodbye(number))
    time.run(5.0, lambda: None)
    assert heard == list(range(20))
    network.say(link, wire.Goodbye(99))
    network.deaf()
    network.listen(take)
    time.run(9.0, lambda: None)
    assert 99 not in heard
