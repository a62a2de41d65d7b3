"""Batches: a file of submissions, one a line, that is accepted whole or not at all.

A line is a Submission in JSON, or an input; the first of them says which. Empty lines, and lines that begin with "#", are
passed over. What the flags say holds for the lines that do not say otherwise. An output may be a template: it is filled
from the line's own input.
"""

from __future__ import annotations

import posixpath
import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from ffrtmp.api import Submission
from ffrtmp.errors import Exit, FarmError

from .values import is_url, media_path

_PLACE = re.compile(r"\{([^{}]*)\}")
_ROOT = re.compile(r"([^/:]+:)(?!//)(.*)", re.DOTALL)
HINT = "`ffrtmpctl jobs submit --help` shows both forms; nothing was submitted"


def read_batch(lines: Iterable[str], flags: Mapping[str, Any], template: str) -> list[Submission]:
    """The submissions of a file's `lines`. Raises FarmError (usage), which names the line, when one is wrong."""
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    told = [(number, line) for number, line in stripped if line and not line.startswith("#")]
    if not told:
        raise FarmError("the list of jobs is empty", hint=HINT, code=Exit.USAGE)
    as_json = told[0][1].startswith("{")
    if not (as_json or template):
        hint = "--output 'media:out/{stem}.mp4' gives each input its own"
        raise FarmError("a list of inputs needs --output with a template", hint=hint, code=Exit.USAGE)
    jobs = [_job(index, number, line, as_json, flags, template) for index, (number, line) in enumerate(told, 1)]
    _refuse_twins(jobs, [number for number, _ in told])
    return jobs


def _job(index: int, number: int, line: str, as_json: bool, flags: Mapping[str, Any], template: str) -> Submission:
    try:
        own: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any]) if as_json else {"input": media_path(line)}
        fields = {**flags, **own}
        if template and "output" not in own and "output_urls" not in own:
            fields.update(outputs_of([fill(template, str(fields.get("input", "")), index)]))
        return msgspec.convert(fields, Submission)
    except (ArgumentTypeError, msgspec.DecodeError, ValueError) as error:
        raise FarmError(f"line {number}: {error}", hint=HINT, code=Exit.USAGE) from error


def fill(template: str, source: str, index: int) -> str:
    """The output for `source` (may be empty). Raises ValueError for a placeholder that there is not."""
    root, path = _split(source)
    name = posixpath.basename(path)
    known = {
        "name": name,
        "stem": posixpath.splitext(name)[0],
        "dir": posixpath.dirname(path) or ".",
        "index": str(index),
    }

    def place(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ValueError(f"{match[0]} is no placeholder: {{stem}}, {{name}}, {{dir}}, {{index}}")
        if not source and match[1] != "index":
            raise ValueError(f"{match[0]} needs an input")
        return known[match[1]]

    filled = _PLACE.sub(place, template)
    if root and template.startswith("{dir}"):
        filled = root + filled  # beside its input, in the same media root
    rooted = _ROOT.fullmatch(filled)
    if rooted and rooted[2].startswith("/"):
        raise ValueError(f"{filled} is no path: what follows a media root's name does not begin with a slash")
    return media_path(_tidy(filled))


def _split(source: str) -> tuple[str, str]:
    """("media:", "a/b.mov"), or ("", path); of a URL its path."""
    if is_url(source):
        return "", unquote(urlsplit(source).path).lstrip("/")
    rooted = _ROOT.fullmatch(source)
    return (rooted[1], rooted[2]) if rooted else ("", source)


def _tidy(path: str) -> str:
    """ "media:./a.mp4" is "media:a.mp4"."""
    rooted = _ROOT.fullmatch(path)
    if rooted is None or is_url(path):
        return path
    return rooted[1] + posixpath.normpath(rooted[2]) + ("/" if rooted[2].endswith("/") else "")


def outputs_of(outputs: Iterable[str]) -> dict[str, Any]:
    """The fields of a Submission for its outputs: at most one path, any number of URLs. Raises ValueError."""
    paths = [place for place in outputs if not is_url(place)]
    urls = tuple(place for place in outputs if is_url(place))
    if len(paths) > 1:
        raise ValueError("a job has one output path")
    fields: dict[str, Any] = {"output": media_path(paths[0])} if paths else {}
    return {**fields, "output_urls": urls} if urls else fields


def _refuse_twins(jobs: Iterable[Submission], numbers: Iterable[int]) -> None:
    seen: dict[str, int] = {}
    for job, number in zip(jobs, numbers, strict=True):
        if job.output and job.output in seen:
            raise FarmError(
                f"lines {seen[job.output]} and {number} would both write {job.output}",
                hint="{index} or {dir} in --output tells them apart; nothing was submitted",
                code=Exit.USAGE,
            )
        seen[job.output] = number
