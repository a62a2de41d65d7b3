"""What the tests of lost and returning nodes share: paced jobs, nodes that fall silent, and what must hold in the end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from whole.tap import FILM_S, Tap

from daemons import BIN, Farm, until

ENDED = ("completed", "failed", "timed_out", "canceled", "rejected")


def tapped(farm: Farm, tap: Tap, name: str, *words: str) -> int:
    """Submit a job that copies the film from the tap to media:NAME.mp4; the agents need --allow-run."""
    given = ["-i", "{input}", "-c", "copy", "{output}"]
    return farm.run(tap.url(name), f"media:{name}.mp4", *given, words=words)


def short(farm: Farm, name: str, *words: str, length_s: int = 1) -> int:
    """Submit a small encode of a generated picture to media:NAME.mp4."""
    asked = ("--scenario", "480p30-h264", "--generate", f"160x90@10:{length_s}", "--output", f"media:{name}.mp4")
    return farm.submit(*asked, *words)


def out_time_s(farm: Farm, number: int) -> float:
    """How far the attempt is that the master counts on."""
    return float((farm.job(number).get("progress") or {}).get("out_time_s", 0.0))


def silence(farm: Farm, name: str) -> None:
    """Stop an agent in its tracks, as a broken network does to its master's eyes; its jobs go on."""
    farm.agents[name].signal(signal.SIGSTOP)


def voice(farm: Farm, name: str) -> None:
    """Let a silenced agent go on."""
    farm.agents[name].signal(signal.SIGCONT)


def other(farm: Farm, name: str) -> str:
    """The other one of two agents."""
    (found,) = [each for each in farm.agents if each != name]
    return found


def successor(farm: Farm, number: int, attempt: int = 2) -> dict[str, Any]:
    """Wait until a job runs in this attempt, with progress."""

    def there() -> dict[str, Any] | None:
        job = farm.job(number)
        assert job["state"] not in ENDED, f"job {number} is {job['state']} before attempt {attempt} ran"
        return job if job["attempt"] == attempt and job["state"] == "running" and out_time_s(farm, number) > 0 else None

    return dict(until(f"attempt {attempt} of job {number}", there))


def engines(farm: Farm, number: int) -> list[psutil.Process]:
    """The ffmpeg processes of a job."""
    found = []
    for process in farm.job_processes("ffmpeg"):
        with contextlib.suppress(psutil.Error):
            if any(f".ffrtmp/{number}." in word for word in process.cmdline()):
                found.append(process)
    return found


def engine(farm: Farm, number: int) -> psutil.Process:
    """The one ffmpeg process of a job, as soon as it is there."""
    (found,) = until(f"the engine of job {number}", lambda: engines(farm, number))
    assert isinstance(found, psutil.Process)
    return found


def kinds(farm: Farm, number: int) -> list[str]:
    """What happened to a job, as the words of its history."""
    return [row["kind"] for row in farm.history(number)]


def decodes(path: Path) -> float:
    """Decode a whole file; its length in seconds. Fails where ffmpeg finds anything to complain of."""
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"{path}: {done.stderr}"
    asked = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    return float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def whole(farm: Farm, name: str) -> None:
    """media:NAME.mp4 is the whole film from the tap."""
    assert abs(decodes(farm.media / f"{name}.mp4") - FILM_S) < 0.5


def one_history(farm: Farm, number: int) -> list[dict[str, Any]]:
    """A job came to its end once, and after that nothing happened to it; its history."""
    rows = farm.history(number)
    ends = [row for row in rows if row["after"] in ENDED and row.get("before") != row["after"]]
    assert len(ends) == 1, rows
    assert [row["after"] for row in rows if row["seq"] >= ends[0]["seq"]] == [ends[0]["after"]] * len(
        [row for row in rows if row["seq"] >= ends[0]["seq"]]
    )
    return rows


def untouched(path: Path, made: os.stat_result) -> None:
    """A file is the very one that it was."""
    now = path.stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_size) == (made.st_ino, made.st_mtime_ns, made.st_size)


def nothing_left(farm: Farm, media: Path | None = None) -> None:
    """No process of any job, no staging folder, no attempt directory."""
    until("the last process of a job to end", lambda: not farm.job_processes())
    ours = (media or farm.media) / ".ffrtmp"
    cleared(farm, "staging folders", lambda: [p for p in ours.glob("*") if p.name != "root-id"])
    cleared(farm, "attempt directories", lambda: attempt_folders(farm))


def cleared(farm: Farm, what: str, left: Callable[[], list[Path]]) -> None:
    """Wait until nothing is left; else name it, and quote what the daemons have said of its attempt."""
    try:
        until(f"the {what} to be cleared", lambda: not left())
    except AssertionError:
        attempts = {match[0] for path in left() if (match := re.search(r"\d+\.\d+", path.name))}
        said = [
            f"{log.name}: {line}"
            for log in sorted(farm.folder.glob("*.log"))
            for line in log.read_text().splitlines()
            if any(re.search(rf"\b{re.escape(attempt)}\b", line) for attempt in attempts)
        ]
        raise AssertionError("\n".join([f"{what} are left:", *map(str, left()), *said])) from None


def attempt_folders(farm: Farm) -> list[Path]:
    """What the agents keep of attempts."""
    return [path for path in farm.folder.glob("agent-*/attempts/*") if path.is_dir()]


def replay(farm: Farm) -> None:
    """Stop the master; its history gives its tables (P10)."""
    assert farm.master is not None
    if farm.master.alive:
        farm.master.stop()
    asked = [str(BIN / "ffrtmp-master"), "--state-dir", str(farm.folder / "master"), "--check"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
