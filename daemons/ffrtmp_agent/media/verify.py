"""`python -m ffrtmp_agent.media.verify ATTEMPT_DIR STAGING`: is the output what was asked for?

Runs inside the job, as the job's user, after the engine ended well: media of strangers is never opened by the agent.
It checks the staged output, makes it durable, takes its fingerprint, measures the results and writes the verdict to
ATTEMPT_DIR/verified. Exit status 0: it could judge, either way; anything else: it broke, and nothing is known.

No time limit of its own: the guard counts the attempt's unpaused time, which a clock in here could not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ffrtmp.errors import FarmError
from ffrtmp.spec import JobSpec, Results, Thumbnails
from ffrtmp.wire import Failure
from ffrtmp_agent import jobfile, joblog
from ffrtmp_agent.claims import State, Verdict
from ffrtmp_agent.jobfile import JobFile
from ffrtmp_agent.media import checks, fingerprint, progress, quality
from ffrtmp_agent.media import probe as probing
from ffrtmp_agent.media.probe import Media

LOG_TAIL_BYTES = 64 << 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and write the verdict."""
    parser = argparse.ArgumentParser(prog="ffrtmp_agent.media.verify", description="Verify the output of an attempt.")
    parser.add_argument("attempt_dir", type=Path)
    parser.add_argument("staging", type=Path)
    asked = parser.parse_args(arguments)
    verdict = judge(asked.attempt_dir, asked.staging)
    jobfile.write_durably(asked.attempt_dir / "verified", msgspec.json.encode(verdict) + b"\n")
    return 0


def judge(folder: Path, staging: Path) -> Verdict:
    """The verdict on what an attempt staged; raises FarmError or OSError where it cannot judge."""
    job = jobfile.read(folder / "job.json")
    staged = staging / Path(job.paths.staged).name
    source = _source(job)
    try:
        checks.check_alone(staging, staged)
        output = _check(job, staged, source, _log_tail(folder))
        _make_durable(staging)
        print_of = fingerprint.fingerprint(staged)
    except checks.Bad as bad:
        return Verdict(ok=False, failure=bad.failure)
    except FarmError as error:
        return Verdict(ok=False, failure=Failure("user_error", False, error.what, error.hint))
    results = _results(job, output, source, print_of.size_bytes)
    results = _with_engine(results, folder, counts_frames=job.spec.recipe.kind in ("file", "thumbnails", "plain"))
    return Verdict(ok=True, fingerprint=print_of, results=_with_quality(results, job, staged))


def _source(job: JobFile) -> Media | None:
    """What the source is; None for a pattern, and for a source that cannot be read any more."""
    if job.spec.source.pattern is not None:
        return None
    try:
        return probing.probe(job.paths.input)
    except FarmError:
        return None


def _check(job: JobFile, staged: Path, source: Media | None, log: Sequence[str]) -> Media | None:
    """Raises `Bad` unless the output is what was asked for; what it is, where it is one media file."""
    recipe = job.spec.recipe
    match recipe.kind:
        case "thumbnails":
            checks.check_pictures(staged, recipe.thumbnails or Thumbnails())
            return None
        case "probe":
            checks.check_report(staged)
            return None
        case "plain":
            return checks.check_plain(staged)
    try:
        output = probing.probe(str(staged))
    except FarmError as error:
        raise checks.Bad(f"the output cannot be read: {error.what}") from error
    checks.check_media(recipe, output, checks.expected(job.spec, source, job.paths.input), log)
    checks.check_end(staged, output)
    return output


def _log_tail(folder: Path) -> list[str]:
    """The engine's last lines; none where there is no log."""
    tail = joblog.chunks(folder, max(0, joblog.size(folder) - LOG_TAIL_BYTES), LOG_TAIL_BYTES)
    return b"".join(data for _, data in tail).decode("utf-8", "replace").splitlines()


def _make_durable(folder: Path) -> None:
    """fsync every file below, then the folders that name them, innermost first."""
    for file in fingerprint.files_in(folder):
        jobfile.fsync(file)
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        jobfile.fsync(inner)
    jobfile.fsync(folder)


def _results(job: JobFile, output: Media | None, source: Media | None, out_bytes: int) -> Results:
    media_s = output.duration_s if output is not None and output.duration_s > 0 else None
    in_bytes = None if source is None else probing.size_bytes(source, job.paths.input)
    in_s = None if source is None else source.duration_s
    return Results(
        media_s=media_s,
        input_bytes=in_bytes,
        output_bytes=out_bytes,
        input_bps=_bitrate(in_bytes, in_s),
        output_bps=_bitrate(out_bytes, media_s),
    )


def _with_engine(results: Results, folder: Path, *, counts_frames: bool) -> Results:
    """What the engine's run is known by: its time, as the guard counted it, and the frames that it said it made."""
    try:
        encode_s = msgspec.json.decode((folder / "state").read_bytes(), type=State).encode_s or None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        encode_s = None
    last = progress.read(folder / "progress", 0.0) if counts_frames else None
    frames = None if last is None else last.frames
    fps = round(frames / encode_s, 2) if frames is not None and encode_s else None
    return msgspec.structs.replace(results, encode_s=encode_s, frames=frames, fps=fps)


def _with_quality(results: Results, job: JobFile, staged: Path) -> Results:
    spec: JobSpec = job.spec
    if not spec.recipe.quality or spec.recipe.video is None or spec.recipe.kind != "file":
        return results
    asked = spec.recipe.quality
    found = quality.measure(str(staged), job.paths.input, spec.source.pattern, spec.recipe.video, asked)
    return msgspec.structs.replace(results, psnr_db=found.get("psnr"), ssim=found.get("ssim"), vmaf=found.get("vmaf"))


def _bitrate(size_bytes: int | None, length_s: float | None) -> int | None:
    return round(8 * size_bytes / length_s) if size_bytes is not None and length_s else None


if __name__ == "__main__":
    raise SystemExit(main())
