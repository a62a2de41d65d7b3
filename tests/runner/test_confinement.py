"""What an engine of the plain runner can reach: its media, its folders, the system's programs, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from runner.yard import Yard, log

from ffrtmp.spec import MediaPath, Source
from ffrtmp_agent import confinement, landlock
from ffrtmp_agent.attempt import AttemptDir

FILE_JOB = Source(path=MediaPath("demo", "id", "in.txt"))
NET_JOB = Source(url="http://127.0.0.1/in.mp4")
confined = landlock.supported() > 0


def said(yard: Yard, command: str, name: str = "1.1", **more: object) -> str:
    """What an engine says on standard error."""
    yard.run(command, name=name, **more)
    return log(AttemptDir(yard.folder / name)).decode()


def test_the_runner_says_how_it_confines(yard: Yard):
    assert yard.runner.confinement == ("landlock" if confined else "none")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_p12_an_engine_reads_its_input_and_nothing_beside_it(yard: Yard, kind: str):
    (yard.root / "in.txt").write_text("wanted")
    (yard.root / "other.txt").write_text("secret")
    outside = yard.base / "key"
    outside.write_text("secret")
    tricks = f"cat {yard.root}/other.txt {outside} /etc/shadow; ls {yard.root} {Path.home()}"
    if kind == "folder":
        tricks = f"ln -s {outside} link; cat link; cat < {outside}; ls {yard.folder}; cat /proc/{os.getpid()}/environ"
    told = said(
        yard, f"exec 1>&2; cat {yard.root}/in.txt; {tricks}; true", source=FILE_JOB, input_path=f"{yard.root}/in.txt"
    )
    assert "wanted" in told
    if confined:
        assert "secret" not in told
        assert "PATH=" not in told
        assert told.count("denied") >= 4


def test_p12_an_engine_writes_to_its_own_folders_only(yard: Yard):
    places = [yard.root / "x", yard.root / ".ffrtmp/x", yard.folder / "x", yard.base / "x", Path("/tmp/ffrtmp-test-x")]
    own = [yard.folder / "1.1/x", yard.root / ".ffrtmp/1.1/x"]
    command = "; ".join(f"echo here > {place}" for place in [*places, *own])
    said(yard, f"sh -c '{command}'; true" if not confined else "; ".join(f"( : > {one} )" for one in [*places, *own]))
    assert all(one.exists() for one in own)
    if confined:
        assert not any(one.exists() for one in places)


def test_p12_an_engine_leaves_no_links_behind(yard: Yard):
    said(yard, f"ln -s /etc/passwd {yard.root}/.ffrtmp/1.1/out.mp4; mkfifo pipe; true")
    if confined:
        assert not (yard.root / ".ffrtmp/1.1/out.mp4").is_symlink()
        assert not (yard.folder / "1.1/pipe").exists()


def test_p12_an_engine_cannot_signal_the_agent(yard: Yard):
    witness = subprocess.Popen(["sleep", "60"])
    try:
        told = said(yard, f"kill -TERM {witness.pid}; true")
        if landlock.supported() >= 6:
            assert "not permitted" in told
            assert witness.poll() is None
    finally:
        witness.send_signal(signal.SIGKILL)
        witness.wait()


def test_an_engine_that_works_on_files_has_no_tcp(yard: Yard):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        dial = f"ffmpeg -nostdin -hide_banner -i tcp://127.0.0.1:{port} -f null -; true"
        if landlock.supported() >= 4:
            assert "Permission denied" in said(yard, dial)
        attempt = yard.start(dial, name="2.1", source=NET_JOB)
        server.settimeout(10)
        connection, _ = server.accept()
        connection.close()
        yard.ended(attempt)


def test_an_engine_gets_a_clean_environment(yard: Yard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FFRTMP_SECRET", "hidden")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("TZ", "UTC")
    told = said(yard, "env >&2").splitlines()
    names = {line.split("=")[0] for line in told}
    allowed = {"PATH", "HOME", "TMPDIR", "FFRTMP_ATTEMPT", "PWD", "_", "SHLVL", "OLDPWD"}
    allowed.add("LC_CTYPE")  # Python sets it where the locale is C (PEP 538)
    assert names <= {*confinement.KEPT, *allowed}
    assert f"FFRTMP_ATTEMPT={yard.uuid(1)}.1" in told
    assert "TZ=UTC" in told


def test_an_engine_gains_no_rights_and_leaves_no_core(yard: Yard):
    told = said(yard, "grep NoNewPrivs /proc/self/status >&2; ulimit -c >&2")
    assert told == "NoNewPrivs:\t1\n0\n"


def test_the_media_programs_and_our_own_work_inside(yard: Yard):
    check = "import ffrtmp_agent.jobfile, pathlib; print(ffrtmp_agent.jobfile.read(pathlib.Path('job.json')).job)"
    encode = "exec ffmpeg -nostdin -f lavfi -i testsrc2=s=64x64:d=0.2 -c:v libx264 "
    outcome = yard.run(encode + f"{yard.root}/.ffrtmp/1.1/out.mp4", verify=[sys.executable, "-c", check])
    assert outcome.how == "verified"
    assert log(AttemptDir(yard.folder / "1.1")).endswith(b"\n1\n")


def test_a_kernel_without_landlock_is_told_by_zero():
    assert landlock.supported() in range(0, 100)
