"""What the numbers and words of a submission may be. Everything that a stranger can send has a bound (P12)."""

from __future__ import annotations

import math
import re

from ffrtmp.api import Submission
from ffrtmp.spec import Pattern

from .refusal import Refusal

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,62}")
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
NOTE_MAX = 1000
ARGUMENTS_MAX = 500
ARGUMENTS_MAX_BYTES = 64 << 10
_WHOLE = {  # field: least, most
    "cpu_milli": (10, 1 << 20),
    "memory_bytes": (16 << 20, 1 << 50),
    "scratch_bytes": (0, 1 << 60),
    "file_bytes": (1 << 10, 1 << 60),
    "max_retries": (0, 100),
    "nice": (0, 19),
    "io_weight": (1, 10_000),
}
_PATTERN: dict[str, tuple[float, float]] = {
    "width": (16, 8192),
    "height": (16, 8192),
    "fps": (1, 240),
    "duration_s": (0.1, 86_400),
}
_TIME_S = (0.1, 30 * 86_400.0)


def check(submission: Submission, labels_max: int) -> None:
    """Raises Refusal (422) naming the first field that is out of its bounds."""
    for name, (least, most) in _WHOLE.items():
        _between(name, getattr(submission, name), least, most)
    _between("time_s", submission.time_s, *_TIME_S)
    if submission.generate is not None:
        _check_pattern(submission.generate)
    check_labels(submission.labels, labels_max)
    if len(submission.note) > NOTE_MAX:
        raise Refusal(422, f"note has more than {NOTE_MAX} characters")
    if submission.traceparent and not _TRACEPARENT.fullmatch(submission.traceparent):
        raise Refusal(422, "traceparent is not of the form 00-TRACE-SPAN-FLAGS", hint="see W3C Trace Context")
    if len(submission.arguments) > ARGUMENTS_MAX:
        raise Refusal(422, f"there are more than {ARGUMENTS_MAX} arguments")
    if sum(map(len, submission.arguments)) > ARGUMENTS_MAX_BYTES:
        raise Refusal(422, f"the arguments have more than {ARGUMENTS_MAX_BYTES} characters together")


def check_labels(labels: tuple[str, ...], labels_max: int) -> None:
    """Raises Refusal (422) for too many labels, or one that is not a short plain word."""
    if len(labels) > labels_max:
        raise Refusal(422, f"there are {len(labels)} labels; at most {labels_max} are taken")
    for label in labels:
        if not LABEL.fullmatch(label):
            raise Refusal(422, f'"{label[:80]}" is no label', hint="letters, digits and _ . = -, at most 63 of them")


def check_node_name(name: str) -> None:
    """Raises Refusal (422) for what cannot be a node's name: it stands in paths of the API and in lines of the journal."""
    if not NODE_NAME.fullmatch(name):
        raise Refusal(
            422, f"{name[:80]!r} is no name for a node", hint="letters, digits and . _ -, at most 63: give it --name"
        )


def _check_pattern(pattern: Pattern) -> None:
    for name, (least, most) in _PATTERN.items():
        _between(f"generate.{name}", getattr(pattern, name), least, most)
    if pattern.width % 2 or pattern.height % 2:
        raise Refusal(422, "a generated pattern has an even width and height")


def _between(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise Refusal(422, f"{name} is {value}; it must be between {least} and {most}")
