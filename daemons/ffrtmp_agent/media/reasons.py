"""Why an engine failed: a table from how it ended and what it said to a class, a telling line and a hint.

First comes what the host did to it (killed, out of memory, out of time), for ffmpeg cannot know. Then its log is
matched against `TABLE`, group by group: earlier groups are causes that make the lines of later groups follow (a full
disk makes muxing fail, which makes "Invalid argument" appear). Within a group the last line that matches any rule is the
telling one: what went wrong before it was got over, as a connection that came back.

The words are those of ffmpeg 5.1 and 7.1. What no rule knows is a `runtime_error` and may be tried again.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Sequence
from dataclasses import dataclass

from ffrtmp.wire import Failure, Reason

MAX_LINE_CHARS = 300


@dataclass(frozen=True, slots=True)
class End:
    """How an engine ended. Exactly one of `status` and `signal` is set, unless nobody saw it end."""

    status: int | None = None
    signal: int | None = None
    oom_kills: int = 0  # of its cgroup
    timed_out: bool = False  # the guard ended it: its time was used up
    stalled: bool = False  # the guard ended it: its out_time stood still


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: lines that match mean this."""

    pattern: re.Pattern[str]
    reason: Reason
    transient: bool
    hint: str


def _rule(pattern: str, reason: Reason, transient: bool, hint: str) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), reason, transient, hint)


# Whether and how often it is tried again is the master's to say; a hint tells what somebody can do about it.
FINAL, TRANSIENT = False, True
_HINT_STALL = "its source or its output's disk may hang; `ffrtmpctl jobs logs` shows all it said"
_HINT_ENDED = "the node's journal may tell by whom"
_ENOENT_OUT = r"error (?:opening output|writing header|initializing the muxer).*"
_NO_OUTPUT = "the node's media root cannot be written; `ffrtmpctl nodes describe` shows its roots"

TABLE: tuple[tuple[Rule, ...], ...] = (
    (  # what this node cannot do
        _rule(
            r"device creation failed|cannot load lib(?:cuda|nvidia|nvcuvid)|no va display|no capable devices found|"
            r"openencodesessionex failed|error initializing (?:an internal|the) mfx|failed to initiali[sz]e vaapi|"
            r"hardware device setup failed",
            "capability_mismatch",
            FINAL,
            "the node's hardware encoder does not work; use a software scenario or another node",
        ),
        _rule(
            r"unknown encoder|encoder not found|automatic encoder selection failed",
            "capability_mismatch",
            FINAL,
            "the node's ffmpeg has no such encoder; `ffrtmpctl nodes describe` shows those it has",
        ),
        _rule(
            r"^(?:.*: )?(?:exec: )?(?:ffmpeg|ffprobe): (?:not found|permission denied)",
            "capability_mismatch",
            FINAL,
            "install ffmpeg on the node",
        ),
    ),
    (  # what ran out
        _rule(
            r"no space left on device|disk quota exceeded",
            "resource_error",
            TRANSIENT,
            "the output's disk is full; make room, or use another media root",
        ),
        _rule(
            r"file too large",
            "resource_error",
            FINAL,
            "the output passed its size limit; raise the job's limit of file size",
        ),
        _rule(
            r"cannot allocate memory|malloc of size \d+ failed|out of memory",
            "resource_error",
            TRANSIENT,
            "it needs more memory; raise the job's memory",
        ),
        _rule(
            r"too many open files|resource temporarily unavailable",
            "resource_error",
            TRANSIENT,
            "the node lacks memory, threads or open files; give the job more memory, or run fewer at a time",
        ),
    ),
    (  # where the output was to go
        _rule(_ENOENT_OUT + r"(?:permission denied|read-only file system)", "platform_error", TRANSIENT, _NO_OUTPUT),
        _rule(_ENOENT_OUT + r"no such file or directory", "platform_error", TRANSIENT, _NO_OUTPUT),
        _rule(r"read-only file system", "platform_error", TRANSIENT, _NO_OUTPUT),
    ),
    (  # what the input lacks; ffmpeg 7 goes on to complain of the option that asks for it
        _rule(
            r"matches no streams|does not contain any stream|output file .*does not contain",
            "input_error",
            FINAL,
            "the input has no picture or no sound, and the scenario needs it",
        ),
    ),
    (  # what was asked
        _rule(
            r"unrecognized option|option not found|error splitting the argument list|error setting (?:option|profile|preset)|"
            r"unable to parse option value|invalid (?:preset|profile)|undefined constant|missing argument for option|"
            r"invalid stream specifier|failed to set value|unable to parse|unknown (?:preset|tune|profile)",
            "user_error",
            FINAL,
            "ffmpeg does not take this option; correct the arguments or the scenario",
        ),
        _rule(
            r"no such filter|error (?:initializing|parsing|reinitializing) (?:a )?(?:simple |complex )?filter|"
            r"cannot parse expression|error initializing filters?|filter .* has an unconnected",
            "user_error",
            FINAL,
            "ffmpeg does not take this filter; correct the arguments or the scenario",
        ),
        _rule(
            r"requested output format|unable to (?:find|choose) a(?:n? suitable)? output format|"
            r"could not find tag for codec|codec not currently supported in container|"
            r"only .* (?:video|audio).* are supported for|could not write header",
            "user_error",
            FINAL,
            "this container cannot hold what was asked; use another extension or codec",
        ),
    ),
    (  # the way to the source
        _rule(
            r"http error (?:408|425|429|5\d\d)|server returned (?:5xx|429)|too many requests",
            "network_error",
            TRANSIENT,
            "the source's server has trouble; see whether it gives this URL to others",
        ),
        _rule(
            r"http error 4\d\d|server returned 40\d",
            "input_error",
            FINAL,
            "the server does not give this URL; check it, and whether it needs a login",
        ),
        _rule(
            r"failed to resolve hostname|temporary failure in name resolution|name or service not known",
            "network_error",
            TRANSIENT,
            "the source's host name is not known; check the URL and the node's DNS",
        ),
        _rule(
            r"connection (?:refused|timed out|reset by peer|to .* failed)|operation timed out|no route to host|"
            r"network is (?:unreachable|down)|host is down|broken pipe|stream ends prematurely|"
            r"error in the p(?:ull|ush) function|tls.*(?:fail|error)|handshake fail",
            "network_error",
            TRANSIENT,
            "the source's server cannot be reached or broke off; see that it runs and that the node can reach it",
        ),
    ),
    (  # the source itself
        _rule(
            r"permission denied|operation not permitted",
            "capability_mismatch",
            FINAL,
            "the node's ffrtmp-job user may not read the input; let it, or use another node",
        ),
        _rule(r"no such file or directory", "input_error", FINAL, "the input is not there; check its path"),
        _rule(r"is a directory", "input_error", FINAL, "the input is a folder; name a file in it"),
        _rule(
            r"format not on whitelist",
            "input_error",
            FINAL,
            "the input is not a media file of its own (text, a playlist or a list of files)",
        ),
        _rule(
            r"protocol '.*' not on whitelist|protocol not found",
            "input_error",
            FINAL,
            "the input leads to where this job may not read",
        ),
        _rule(
            r"invalid data found when processing input|moov atom not found|ebml header parsing failed|"
            r"could not find codec parameters|decoder .*not found|error while decoding|error opening input",
            "input_error",
            FINAL,
            "the input is empty, cut off, or no media file",
        ),
    ),
)
NETWORK = tuple(rule for group in TABLE for rule in group if rule.reason == "network_error")
# Said of a source that ends too early, while ffmpeg itself is content: asked only when the output came out short.
CUT_OFF = _rule(
    r"partial file|file ended prematurely|corrupt|truncat|invalid nal unit|invalid data found|error while decoding",
    "input_error",
    FINAL,
    "the input is cut off or damaged",
)
# A server without byte ranges, and a film whose index stands behind its pictures: having read the index, ffmpeg cannot go
# back, says so, and then finds the stream at its "end" in just the place where it wanted to be. A connection that breaks
# is complained of before anything is missed, and at another place.
_CANNOT_GO_BACK = re.compile(r"stream \d+, offset 0x([0-9a-f]+): partial file", re.IGNORECASE)
_ENDED_AT = re.compile(r"stream ends prematurely at (\d+), should be", re.IGNORECASE)
_CANNOT_WRITE = re.compile(
    r"permission denied|no such file or directory|read-only file system|not permitted", re.IGNORECASE
)
_CRASHES = frozenset({signals.SIGSEGV, signals.SIGBUS, signals.SIGABRT, signals.SIGILL, signals.SIGFPE, signals.SIGSYS})


def classify(end: End, log: str | Sequence[str], *, staged: str = "") -> Failure:
    """The failure of an engine that ended so; `log` is the tail of its standard error (the last 16 KiB will do).

    `staged` is the path of its output, by which "No such file" of the output is told from that of the input.
    """
    lines = log.splitlines() if isinstance(log, str) else list(log)
    known = _by_host(end, lines) or _by_output(lines, staged) or without_ranges(lines)
    return known or by_log(lines, TABLE) or _unknown(end, lines)


def by_log(lines: Sequence[str], table: Sequence[Sequence[Rule]]) -> Failure | None:
    """The failure that the first group of `table` with a matching line tells; None where none matches."""
    for group in table:
        for line in reversed(lines):
            for rule in group:
                if rule.pattern.search(line):
                    return Failure(rule.reason, rule.transient, told(line), rule.hint)
    return None


def without_ranges(lines: Sequence[str]) -> Failure | None:
    """The failure of a film that can only be read with byte ranges, which its server does not give; None for any other."""
    missed = None
    for line in lines:
        if missed is None and any(rule.pattern.search(line) for rule in NETWORK):
            return None  # broken before anything was missed
        missed = missed or _CANNOT_GO_BACK.search(line)
        ended = _ENDED_AT.search(line)
        if missed and ended:
            if int(missed[1], 16) != int(ended[1]):
                return None
            hint = (
                "the server gives no byte ranges and the film's index is at its end: serve it from a server that does, "
                "or copy it to a media root"
            )
            return Failure("input_error", FINAL, told(missed.string), hint)
    return None


def told(line: str) -> str:
    """A log line as it is shown: printable, without ffmpeg's addresses, of bounded length."""
    line = re.sub(r" @ 0x[0-9a-f]+", "", line)
    return "".join(char if char.isprintable() else "?" for char in line.strip())[:MAX_LINE_CHARS]


def _by_host(end: End, lines: Sequence[str]) -> Failure | None:
    if end.oom_kills:
        return Failure("resource_error", TRANSIENT, "killed: it ran out of memory", "raise the job's memory")
    if end.timed_out:
        return Failure("timeout", FINAL, "its time was used up", "raise the job's time limit, or use a faster scenario")
    if end.stalled:
        return Failure("timeout", TRANSIENT, f"no progress any more; last said: {_last(lines)}", _HINT_STALL)
    if end.signal is None:
        return None
    name = _signal_name(end.signal)
    if end.signal == signals.SIGXFSZ:
        return Failure(
            "resource_error", FINAL, "the output passed its size limit", "raise the job's limit of file size"
        )
    if end.signal == signals.SIGXCPU:
        return Failure("resource_error", FINAL, "its CPU time was used up", "raise the job's time limit")
    if end.signal in _CRASHES:
        return Failure("runtime_error", TRANSIENT, f"ffmpeg crashed ({name})", "if it does so again, tell the makers")
    return Failure("platform_error", TRANSIENT, f"ffmpeg was ended from outside ({name})", _HINT_ENDED)


def _by_output(lines: Sequence[str], staged: str) -> Failure | None:
    """ffmpeg 5.1 says only the path and the error, whichever file it is about."""
    for line in reversed(lines):
        if staged and staged in line and _CANNOT_WRITE.search(line):
            return Failure("platform_error", TRANSIENT, told(line), _NO_OUTPUT)
    return None


def _unknown(end: End, lines: Sequence[str]) -> Failure:
    if end.status == 255 and any("received signal" in line for line in lines):
        return Failure("platform_error", TRANSIENT, told(_last(lines)), f"ffmpeg was ended from outside; {_HINT_ENDED}")
    how = "nobody saw how it ended" if end.status is None else f"exit status {end.status}"
    return Failure("runtime_error", TRANSIENT, told(_last(lines)) or how, "`ffrtmpctl jobs logs` shows all it said")


def _last(lines: Sequence[str]) -> str:
    return next((told(line) for line in reversed(lines) if line.strip()), "")


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
