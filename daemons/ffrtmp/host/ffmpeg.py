"""What the installed ffmpeg says of itself: its version, its lists, and by what it can be told from another one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from ffrtmp.host.bounded import Ran

WANTED_FILTERS = ("libvmaf", "psnr", "ssim")
_ENCODER = re.compile(r"^ [VAS][A-Z.]{5} (\S+)")
_FILTER = re.compile(r"^ [A-Z.]{2,3} (\S+) +\S+->\S+")


class Abilities(Struct, frozen=True):
    """What ffmpeg was built with; whether an encoder works on this host is another question."""

    version: str = ""  # "5.1.9-0+deb12u1"; empty: it does not work
    problem: str = ""  # why it does not work
    listed: frozenset[str] = frozenset()
    filters: tuple[str, ...] = ()  # of WANTED_FILTERS
    input_protocols: tuple[str, ...] = ()
    output_protocols: tuple[str, ...] = ()


def find(ffmpeg: str) -> Path | None:
    """The program that `ffmpeg` (a name or a path) means; None where there is none.

    Links are kept: some programs (snap's) know by the name they are called by what they are to be.
    """
    found = shutil.which(ffmpeg)
    return Path(found).absolute() if found else None


def identity(program: Path) -> str:
    """What tells this binary from another: path (links followed), size, time of change; raises OSError when gone."""
    binary = program.resolve()
    status = binary.stat()
    return f"{binary} {status.st_size} {status.st_mtime_ns}"


def questions(program: Path) -> dict[str, tuple[str, ...]]:
    """The commands whose answers `read_answers` takes."""
    base = (str(program), "-hide_banner", "-nostdin")
    return {
        "version": (str(program), "-nostdin", "-version"),
        "encoders": (*base, "-encoders"),
        "filters": (*base, "-filters"),
        "protocols": (*base, "-protocols"),
    }


def read_answers(answers: Mapping[str, Ran]) -> Abilities:
    """What the answers say. When ffmpeg fails at one of the questions, only `problem` is set."""
    for name in ("version", "encoders", "filters", "protocols"):
        if not answers[name].ok:
            return Abilities(problem=_complaint(name, answers[name]))
    version = re.match(r"ffmpeg version (\S+)", answers["version"].output)
    if not version:
        return Abilities(problem="it does not say which version of ffmpeg it is")
    inputs, _, outputs = answers["protocols"].output.partition("Output:")
    filters = {found[1] for line in answers["filters"].output.splitlines() if (found := _FILTER.match(line))}
    return Abilities(
        version=version[1],
        listed=frozenset(m[1] for line in answers["encoders"].output.splitlines() if (m := _ENCODER.match(line))),
        filters=tuple(name for name in WANTED_FILTERS if name in filters),
        input_protocols=_protocols(inputs.partition("Input:")[2]),
        output_protocols=_protocols(outputs),
    )


def telling_line(text: str) -> str:
    """The line of ffmpeg's messages that says most: the first, without the part's address; empty for none."""
    for line in text.splitlines():
        said = re.sub(r"^\[(\S+) @ 0x[0-9a-f]+\] ", r"\1: ", line.strip())
        if said:
            return said[:300]
    return ""


def _protocols(text: str) -> tuple[str, ...]:
    return tuple(sorted(line.strip() for line in text.splitlines() if line.strip()))


def _complaint(what: str, ran: Ran) -> str:
    """Why a question got no answer, in words."""
    if ran.how == "timed_out":
        return f"it did not answer to -{what} within {ran.took_s:.0f} s"
    if ran.how == "flooded":
        return f"it printed without end when asked for -{what}"
    said = telling_line(ran.errors) or telling_line(ran.output)
    ended = f"killed by signal {-ran.status}" if ran.status < 0 else f"exit status {ran.status}"
    return said or f"it failed when asked for -{what}: {ended}"
