"""Scenarios: named recipes, read from TOML files.

A scenario's name is its file's name without `.toml`; case does not matter. Folders are read in order and a file in a
later folder takes the place of one with the same name in an earlier folder, as a whole. A short name is a file with
`alias = "OTHER"`; whatever else it says overrides that part of OTHER.

Quantities are written as people write them and are parsed here, once: bitrates as "10M" (ten megabits a second), sizes
as "512MiB", CPU as a number of cores. From then on they are integers with the unit in the name (see `spec`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from ffrtmp.errors import Exit, FarmError
from ffrtmp.quantity import parse_size_bytes
from ffrtmp.spec import Codec, Pattern, Recipe

PACKAGED = Path(__file__).with_name("scenarios")
FOLDERS = (PACKAGED, Path("/usr/share/ffrtmp/scenarios"), Path("/etc/ffrtmp/scenarios"))
PATTERN_S = 60.0  # of the generated picture that a scenario without input uses

# The software encoder of each codec, by ffmpeg's name.
ENCODERS: dict[Codec, str] = {"h264": "libx264", "h265": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}

# What each container can hold: picture codecs and sound codecs.
CONTAINERS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "mp4": (frozenset({"h264", "h265", "vp9", "av1", "copy"}), frozenset({"aac", "opus", "flac", "mp3", "copy"})),
    "mov": (frozenset({"h264", "h265", "copy"}), frozenset({"aac", "mp3", "copy"})),
    "mkv": (frozenset({"h264", "h265", "vp9", "av1", "copy"}), frozenset({"aac", "opus", "flac", "mp3", "copy"})),
    "webm": (frozenset({"vp9", "av1", "copy"}), frozenset({"opus", "copy"})),
    "m4a": (frozenset(), frozenset({"aac", "copy"})),
    "mp3": (frozenset(), frozenset({"mp3", "copy"})),
    "flac": (frozenset(), frozenset({"flac", "copy"})),
    "ogg": (frozenset(), frozenset({"opus", "flac", "copy"})),
}

_BITRATE = re.compile(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*([kMG]?)(?:bit/s|bps)?\s*")
_BITRATE_FACTOR = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def parse_bitrate_bps(value: str | int) -> int:
    """Bits per second of "10M" (10,000,000), "800k" or a bare number; raises ValueError for anything else."""
    match = _BITRATE.fullmatch(str(value))
    if match is None or isinstance(value, bool):
        raise ValueError(f'"{value}" is not a bitrate; write it as 800k or 10M')
    return round(float(match[1]) * _BITRATE_FACTOR[match[2]])


def parse_cores_milli(value: float) -> int:
    """Thousandths of a core of a number of cores; raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 4096:
        raise ValueError(f'"{value}" is not a number of CPU cores; write it as 1.5')
    return round(value * 1000)


def _size_bytes(value: str | int) -> int:
    return parse_size_bytes(str(value))


_MOST = (1 << 63) - 1

# (table, what people write) -> (field of spec, how to read it)
_HUMAN: dict[tuple[str, str], tuple[str, Callable[[Any], int]]] = {
    ("video", "bitrate"): ("bitrate_bps", parse_bitrate_bps),
    ("video", "max_bitrate"): ("max_bitrate_bps", parse_bitrate_bps),
    ("audio", "bitrate"): ("bitrate_bps", parse_bitrate_bps),
    ("needs", "cpu"): ("cpu_milli", parse_cores_milli),
    ("needs", "memory"): ("memory_bytes", _size_bytes),
    ("needs", "scratch"): ("scratch_bytes", _size_bytes),
    ("limits", "cpu"): ("cpu_milli", parse_cores_milli),
    ("limits", "memory"): ("memory_bytes", _size_bytes),
    ("limits", "file"): ("file_bytes", _size_bytes),
}


def load(folders: Iterable[Path] = FOLDERS) -> dict[str, Recipe]:
    """All scenarios by name, sorted. A folder that is not there is empty; raises FarmError naming file and field."""
    files: dict[str, Path] = {}
    for folder in folders:
        files |= {path.stem.casefold(): path for path in sorted(folder.glob("*.toml"))}
    tables = {key: _read(path) for key, path in files.items()}
    recipes = {}
    for key, path in sorted(files.items()):
        recipes[path.stem] = _recipe(path, _resolve(key, files, tables))
    return recipes


def find(recipes: dict[str, Recipe], name: str) -> Recipe:
    """The scenario of that name, in any case; raises FarmError with the nearest names."""
    folded = {known.casefold(): recipe for known, recipe in recipes.items()}
    if (recipe := folded.get(name.casefold())) is not None:
        return recipe
    near = [folded[key].scenario for key in get_close_matches(name.casefold(), folded)]
    hint = f"did you mean {', '.join(near)}?" if near else "`ffrtmpctl scenarios list` shows them all"
    raise FarmError(f'there is no scenario "{name}"', hint=hint, code=Exit.NOT_FOUND)


def extension(recipe: Recipe) -> str:
    """The file extension of its output, without a dot; empty where the output is a folder."""
    return "" if recipe.kind == "thumbnails" else recipe.container


def pattern(recipe: Recipe) -> Pattern:
    """The generated input that a submission without one gets: in the size and rate that the scenario puts out."""
    video = recipe.video
    if video is None or not (video.width and video.height):
        return Pattern(duration_s=PATTERN_S)
    return Pattern(video.width, video.height, video.fps or 30.0, PATTERN_S)


def encoder_of(recipe: Recipe) -> str:
    """The ffmpeg encoder that its picture needs; empty where none is encoded."""
    if recipe.video is None or recipe.video.codec == "copy":
        return ""
    return recipe.video.encoder or ENCODERS[recipe.video.codec]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(path, error.strerror or "cannot be read") from error
    except (ValueError, RecursionError) as error:  # of a number of 5000 digits, of brackets in brackets
        raise _wrong(path, str(error)) from error


def _resolve(key: str, files: dict[str, Path], tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The table of a scenario with its chain of aliases followed."""
    overrides: list[dict[str, Any]] = []
    seen = [key]
    while (target := tables[key].get("alias")) is not None:
        overrides.append({name: value for name, value in tables[key].items() if name != "alias"})
        key = str(target).casefold()
        if key not in tables:
            raise _wrong(files[seen[-1]], f'alias: there is no scenario "{target}"')
        if key in seen:
            raise _wrong(files[seen[0]], f"alias: it leads back to itself: {' -> '.join([*seen, key])}")
        seen.append(key)
    result = tables[key]
    for override in reversed(overrides):
        result = _merged(result, override)
    return result


def _merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `override`, tables merged one level deep: a scenario has no deeper ones."""
    result = dict(base)
    for key, value in override.items():
        old = result.get(key)
        result[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _recipe(path: Path, table: dict[str, Any]) -> Recipe:
    try:
        recipe = msgspec.convert({**_plain(path, table), "scenario": path.stem}, Recipe)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        field = where.rstrip("`")
        raise _wrong(path, f"{field}: {what}" if field else what) from error
    if problem := _problem(recipe):
        raise _wrong(path, problem)
    encoder = encoder_of(recipe)
    if encoder and not recipe.needs.encoders:
        needs = msgspec.structs.replace(recipe.needs, encoders=(encoder,))
        recipe = msgspec.structs.replace(recipe, needs=needs)
    return recipe


def _plain(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    """The table with all quantities as integers under their names in `spec`."""
    result: dict[str, Any] = {}
    for name, part in table.items():
        if not isinstance(part, dict):
            result[name] = part
            continue
        result[name] = {}
        for key, value in part.items():
            field, parse = _HUMAN.get((name, key), (key, None))
            try:
                number = value if parse is None else parse(value)
            except ValueError as error:
                raise _wrong(path, f"{name}.{key}: {error}") from error
            if isinstance(number, int) and abs(number) > _MOST:  # a message could not carry it
                raise _wrong(path, f"{name}.{key}: the number is beyond all bounds")
            result[name][field] = number
    return result


def _problem(recipe: Recipe) -> str:
    """Why a recipe makes no sense, or an empty string."""
    match recipe.kind:
        case "file" if recipe.video is None:
            return "video: a scenario of kind file needs a [video] table"
        case "audio" if recipe.audio is None or recipe.video is not None:
            return "audio: a scenario of kind audio needs an [audio] table and no [video]"
        case "thumbnails" if recipe.thumbnails is None:
            return "thumbnails: a scenario of kind thumbnails needs a [thumbnails] table"
        case "probe" if recipe.container != "json":
            return 'container: a scenario of kind probe puts out "json"'
        case "file" | "audio":
            return _size_problem(recipe) or _container_problem(recipe)
        case "thumbnails" | "probe":
            return ""
        case other:
            return f'kind: "{other}" is not one of file, audio, thumbnails, probe'


def _size_problem(recipe: Recipe) -> str:
    video = recipe.video
    if video is None or video.codec == "copy":
        return ""
    if bool(video.width) != bool(video.height):
        return "video.width: width and height are a box and go together"
    if video.width % 2 or video.height % 2 or not (0 <= video.width <= 16384 and 0 <= video.height <= 16384):
        return "video.width: width and height are even and at most 16384"
    return "video.fps: it is between 0 and 1000" if not 0 <= video.fps <= 1000 else ""


def _container_problem(recipe: Recipe) -> str:
    if recipe.container not in CONTAINERS:
        return f'container: "{recipe.container}" is not one of {", ".join(CONTAINERS)}'
    pictures, sounds = CONTAINERS[recipe.container]
    if recipe.video is not None and recipe.video.codec not in pictures:
        return f"video.codec: {recipe.container} cannot hold {recipe.video.codec}"
    if recipe.audio is not None and recipe.audio.codec not in sounds:
        return f"audio.codec: {recipe.container} cannot hold {recipe.audio.codec}"
    return ""


def _wrong(path: Path, what: str) -> FarmError:
    return FarmError(f"scenario {path}: {what}", hint="correct the file, or remove it", code=Exit.CONFIG)
